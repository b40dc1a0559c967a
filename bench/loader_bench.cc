// How fast a model becomes regions, beside a plain read of the same file in the same run.
//   loader_bench MODEL [QUANT] [THREADS]
// Both are repeated, interleaved, and the best of each is taken: the first read fills the page
// cache for all.
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "lib/base/thread_pool.h"
#include "loader/pack/model_packer.h"
#include "loader/read/input_file.h"
#include "loader/read/model_source.h"

namespace tandem {
namespace {

constexpr int kRounds = 3;
constexpr std::uint64_t kReadBytes = 1 << 20;

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "loader_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

double Seconds(absl::Time start) { return absl::ToDoubleSeconds(absl::Now() - start); }

// Reads the weights' bytes with the same threads and part size into buffers that are thrown away.
double ReadPlainly(const ModelSource& source, ThreadPool& pool, std::uint64_t* bytes) {
  struct Part {
    const SourceTensor* tensor;
    std::int64_t row, rows;
  };
  std::vector<Part> parts;
  *bytes = 0;
  for (const SourceTensor& tensor : source.tensors()) {
    const std::uint64_t row_bytes = RowBytesOf(tensor.type, tensor.shape.cols);
    *bytes += row_bytes * static_cast<std::uint64_t>(tensor.shape.rows);
    const std::int64_t step =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(kReadBytes / row_bytes));
    for (std::int64_t row = 0; row < tensor.shape.rows; row += step) {
      parts.push_back({&tensor, row, std::min(step, tensor.shape.rows - row)});
    }
  }
  std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(pool.threads()));
  std::atomic<bool> failed = false;
  const absl::Time start = absl::Now();
  pool.ParallelFor(static_cast<std::int64_t>(parts.size()), 1,
                   [&](std::int64_t begin, std::int64_t end, int worker) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       const Part& part = parts[static_cast<std::size_t>(i)];
                       std::vector<std::byte>& buffer = buffers[static_cast<std::size_t>(worker)];
                       buffer.resize(RowBytesOf(part.tensor->type, part.tensor->shape.cols) *
                                     static_cast<std::uint64_t>(part.rows));
                       if (!source.ReadRows(*part.tensor, part.row, part.rows, buffer).ok())
                         failed = true;
                     }
                   });
  return failed ? -1 : Seconds(start);
}

int Run(const std::string& path, const std::string& quant, int threads) {
  const auto mode = ParseEnum<QuantMode>("--quant", quant);
  if (!mode.ok()) return Fail(mode.status());
  absl::Time start = absl::Now();
  const auto source = ModelSource::Open(path);
  if (!source.ok()) return Fail(source.status());
  const double open_seconds = Seconds(start);
  const auto packer = ModelPacker::Create(**source, *mode);
  if (!packer.ok()) return Fail(packer.status());
  ThreadPool pool(threads);
  double read = 1e30, pack = 1e30;
  std::uint64_t bytes = 0;
  for (int round = 0; round < kRounds; ++round) {
    const double seconds = ReadPlainly(**source, pool, &bytes);
    if (seconds < 0) return Fail(absl::DataLossError("reading the file failed"));
    if (round > 0) read = std::min(read, seconds);
    start = absl::Now();
    const auto regions = packer->Pack(pool, {});
    if (!regions.ok()) return Fail(regions.status());
    pack = std::min(pack, Seconds(start));
  }
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  std::printf(
      "%s --quant=%s, %d threads: opened in %.3f s; %.3f GB of file -> %.3f GB of regions\n",
      path.c_str(), quant.c_str(), threads, open_seconds, gigabytes,
      static_cast<double>(packer->total_bytes()) / 1e9);
  std::printf("plain read %.2f GB/s (%.3f s), load %.2f GB/s (%.3f s), ratio %.2f\n",
              gigabytes / read, read, gigabytes / pack, pack, read / pack);
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: loader_bench MODEL [bf16|int8|int4|as-is] [THREADS]\n");
    return 2;
  }
  const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return tandem::Run(argv[1], argc > 2 ? argv[2] : "as-is",
                     argc > 3 ? std::max(1, std::atoi(argv[3])) : hardware);
}
