// What the CPU device reaches, beside what its memory can do: products of a large matrix and 1 to
// 64 rows in GB/s (weights read once), prefill and decode of layers of the 1B shape in tokens/s.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "hwy/aligned_allocator.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/thread_pool.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/device/cpu/kernels.h"
#include "lib/weights/random_model.h"

namespace tandem {
namespace {

constexpr std::int64_t kCols = 1152;
constexpr std::int64_t kBytesToRead = std::int64_t{256} << 20;  // far more than any cache holds

int Threads() {
  static const int threads = static_cast<int>(std::thread::hardware_concurrency());
  return threads;
}

ThreadPool& Pool() {
  static ThreadPool pool(Threads());
  return pool;
}

// Sums a large buffer of integers: the rate at which this machine reads memory.
double ReadOnce(const std::vector<std::uint64_t>& buffer) {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(Threads()) * 8);
  const auto read = [&](std::int64_t begin, std::int64_t end, int worker) {
    std::uint64_t sum[4] = {};
    for (std::int64_t i = begin; i < end; i += 4) {
      for (int j = 0; j < 4; ++j) sum[j] += buffer[static_cast<std::size_t>(i + j)];
    }
    sums[static_cast<std::size_t>(worker) * 8] += sum[0] + sum[1] + sum[2] + sum[3];
  };
  const absl::Time start = absl::Now();
  Pool().ParallelFor(static_cast<std::int64_t>(buffer.size()), 1 << 16, std::cref(read));
  benchmark::DoNotOptimize(sums.data());
  return static_cast<double>(buffer.size() * 8) / absl::ToDoubleSeconds(absl::Now() - start);
}

// The best of some rounds, measured once a run.
double ReadBandwidth() {
  static const double best = [] {
    const std::vector<std::uint64_t> buffer(kBytesToRead / 8, 1);
    double most = 0;
    for (int i = 0; i < 8; ++i) most = std::max(most, ReadOnce(buffer));
    return most;
  }();
  return best;
}

// As many rows of kCols as fill kBytesToRead.
struct BenchMatrix {
  explicit BenchMatrix(WeightFormat format) {
    const PlaneSizes row = *PlaneSizesOf(format, {1, kCols});
    const std::int64_t rows =
        kBytesToRead / static_cast<std::int64_t>(row.value_bytes + row.scale_bytes);
    const PlaneSizes sizes = *PlaneSizesOf(format, {rows, kCols});
    values.assign(sizes.value_bytes, 0x11);
    scales.assign(sizes.scale_bytes / 2, FloatToHalf(0.01f));
    view = {format, rows, kCols, values.data(), scales.data()};
  }
  double bytes() const { return static_cast<double>(values.size() + 2 * scales.size()); }
  std::vector<std::uint8_t> values;
  std::vector<std::uint16_t> scales;
  MatrixView view;
};

// The matrix times state.range(0) rows of activations.
void Product(benchmark::State& state, WeightFormat format, bool int8) {
  const std::int64_t tokens = state.range(0);
  const BenchMatrix matrix(format);
  const std::vector<float> x(static_cast<std::size_t>(tokens * kCols), 0.5f);
  std::vector<float> out(static_cast<std::size_t>(tokens * matrix.view.rows));
  const auto padded = static_cast<std::int64_t>(RoundUp(kCols, kGroupSize * kChunkGroups));
  const auto quants = static_cast<std::size_t>(tokens * padded);
  std::vector<std::int8_t> plain(quants), split(quants), biased(quants);
  std::vector<float> scales(quants / kGroupSize);
  std::vector<std::int32_t> sums(quants / kGroupSize);
  const QuantizedRows quantized{plain.data(), split.data(), scales.data(), sums.data(),
                                padded,       tokens,       biased.data()};
  for (std::int64_t t = 0; t < tokens; ++t) {
    QuantizeActivations(x.data() + t * kCols, kCols, t, quantized);
  }
  constexpr std::int64_t kFloatTile = kTileRows * kCols * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t scratch = std::max(Int8ScratchBytes(padded), kFloatTile);
  hwy::AlignedFreeUniquePtr<std::byte[]> tiles =
      hwy::AllocateAligned<std::byte>(static_cast<std::size_t>(scratch * Threads()));
  const auto rows = [&](std::int64_t begin, std::int64_t end, int worker) {
    std::byte* tile = tiles.get() + worker * scratch;
    if (int8)
      return Int8Product(matrix.view, begin, end, quantized, tile, out.data(), matrix.view.rows);
    FloatProduct(matrix.view, begin, end, {x.data(), kCols, tokens}, reinterpret_cast<float*>(tile),
                 out.data(), matrix.view.rows);
  };
  for (auto _ : state) {
    Pool().ParallelFor(matrix.view.rows, 256, std::cref(rows));
    benchmark::ClobberMemory();
  }
  const double bytes = matrix.bytes() * static_cast<double>(state.iterations());
  const double products = static_cast<double>(matrix.view.rows * kCols * tokens) *
                          static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["GMAC/s"] = benchmark::Counter(products / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_memory"] =
      benchmark::Counter(bytes / ReadBandwidth(), benchmark::Counter::kIsRate);
}

// Gemma 3 1B with a few of its layers.
ModelConfig Shape1B(std::int32_t layers, std::int32_t vocab) {
  ModelConfig config;
  config.name = "1b";
  config.vocab_size = vocab;
  config.hidden_size = kCols;
  config.ffn_size = 6912;
  config.num_layers = layers;
  config.num_heads = 4;
  config.num_kv_heads = 1;
  config.head_dim = 256;
  config.max_positions = 32768;
  config.sliding_window = 512;
  config.query_pre_attn_scalar = 256;
  for (std::int32_t i = 0; i < layers; ++i) config.layer_is_global.push_back((i + 1) % 6 == 0);
  return config;
}

// Steps of `tokens` tokens each of `sequences` sequences, at the start of their contexts.
void Steps(benchmark::State& state, WeightFormat format, ActivationType activations,
           std::int32_t layers, std::int32_t vocab) {
  const auto tokens = static_cast<std::int32_t>(state.range(0));
  const auto sequences = static_cast<std::int32_t>(state.range(1));
  const auto device = CreateCpuDevice({});
  TANDEM_CHECK(device.ok());
  const auto model = MakeRandomModel(Shape1B(layers, vocab), format, 1);
  TANDEM_CHECK(model.ok());
  std::vector<std::shared_ptr<const Region>> regions;
  for (const auto& [name, region] : model->regions) regions.push_back(region);
  RunnerOptions options;
  options.activations = activations;
  options.limits = {
      .max_tokens = 512, .max_sequences = 16, .max_logit_rows = 16, .max_blocks_per_sequence = 64};
  auto runner = ModelRunner::Make(device->get(), model->config, regions, options);
  TANDEM_CHECK(runner.ok());
  std::vector<RunnerShare> shares;
  for (std::int32_t s = 0; s < sequences; ++s) {
    shares.push_back({s, std::vector<std::int32_t>(static_cast<std::size_t>(tokens), s + 1)});
  }
  std::vector<std::int32_t> last_rows;
  for (std::int32_t s = 0; s < sequences; ++s) last_rows.push_back((s + 1) * tokens - 1);
  for (auto _ : state) {
    Step step = (*runner)->Prepare(shares);
    step.logit_rows = last_rows;
    TANDEM_CHECK((*runner)->RunAll(step, 0, 0).ok());
  }
  state.counters["tokens/s"] = benchmark::Counter(
      static_cast<double>(tokens * sequences) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

void Register() {
  const struct {
    const char* name;
    WeightFormat format;
    bool int8;
  } products[] = {{"bf16", WeightFormat::kBf16, false},
                  {"int8", WeightFormat::kInt8, false},
                  {"int4", WeightFormat::kInt4, false},
                  {"int8/int8_activations", WeightFormat::kInt8, true},
                  {"int4/int8_activations", WeightFormat::kInt4, true}};
  for (const auto& p : products) {
    const std::string name = p.name;
    const ActivationType activations = p.int8 ? ActivationType::kInt8 : ActivationType::kFloat32;
    benchmark::RegisterBenchmark(("product/" + name).c_str(), Product, p.format, p.int8)
        ->Arg(1)
        ->Arg(2)
        ->Arg(4)
        ->Arg(8)
        ->Arg(16)
        ->Arg(64)
        ->MeasureProcessCPUTime()
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    // Two layers stand for the 26 of the model; a small vocabulary leaves the head out.
    benchmark::RegisterBenchmark(("layers2/" + name).c_str(), Steps, p.format, activations, 2, 32)
        ->Args({1, 1})
        ->Args({1, 4})
        ->Args({1, 16})
        ->Args({128, 1})
        ->Args({512, 1})
        ->MeasureProcessCPUTime()
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    if (p.format != WeightFormat::kInt4) continue;
    benchmark::RegisterBenchmark(("whole_1b/" + name).c_str(), Steps, p.format, activations, 26,
                                 262144)
        ->Args({1, 1})
        ->Args({1, 8})
        ->Args({128, 1})
        ->MeasureProcessCPUTime()
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Register();
  benchmark::Initialize(&argc, argv);
  std::printf("%d threads, %s, memory reads %.1f GB/s\n", tandem::Threads(),
              tandem::CpuTargetName().c_str(), tandem::ReadBandwidth() / 1e9);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
