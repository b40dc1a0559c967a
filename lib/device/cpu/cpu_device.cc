#include "lib/device/cpu/cpu_device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/dma_buf.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_program.h"
#include "lib/device/cpu/kernels.h"

namespace tandem {
namespace {

constexpr int kMaxThreads = 1024;

int UsableCpus() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

// As /proc/cpuinfo calls it; empty where it does not say.
std::string CpuBrand() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!absl::StartsWith(line, "model name")) continue;
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return "";
}

DeviceInfo MakeInfo(int threads) {
  const std::string brand = CpuBrand();
  DeviceInfo info;
  info.kind = "cpu";
  info.name = absl::StrCat("CPU ", brand, brand.empty() ? "" : " ", "(", CpuTargetName(), ", ",
                           threads, threads == 1 ? " thread)" : " threads)");
  info.driver = absl::StrCat("tandem, ", CpuTargetName());
  info.memory_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  info.unified_memory = true;
  return info;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, ProductUnit* unit) : info_(MakeInfo(threads)), shared_(threads, unit) {
    memory_.dma_buf = {MemoryAbility::kAny, LargestDmaBuf()};
    memory_.host_pointer = {MemoryAbility::kAny, MemoryAbility::kAny};
    memory_.host_view = true;
  }

  const DeviceInfo& info() const override { return info_; }
  const MemoryDeclaration& memory() const override { return memory_; }
  DeviceCounters counters() const override {
    DeviceCounters counters;
    counters.allocations = shared_.counters.allocations.load(std::memory_order_relaxed);
    counters.submissions = shared_.counters.submissions.load(std::memory_order_relaxed);
    return counters;
  }

  DeviceReport Report() const override {
    DeviceReport report;
    for (std::size_t i = 0; i < kCpuPartNames.size(); ++i) {
      report.parts.push_back(
          {kCpuPartNames[i], "host", shared_.parts.Seconds(static_cast<CpuPart>(i))});
    }
    return report;
  }

  absl::StatusOr<std::shared_ptr<const Weights>> Import(std::shared_ptr<const Region> region,
                                                        const ModelConfig& config) override {
    if (region == nullptr)
      return absl::InvalidArgumentError("CPU device: the region of weights is null");
    TANDEM_RETURN_IF_ERROR(ValidateManifest(region->manifest(), config));
    // A unit keeps what it multiplies by in an order of its own.
    return std::make_shared<const CpuWeights>(
        std::move(region),
        shared_.unit == nullptr ? "mapped" : "upload: the order of its products' unit");
  }

  absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig& config,
                                                         const KvCacheSpec& spec) override {
    return CpuKvCache::Make(config, spec, &shared_.counters);
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(
      const ResidualLayout& layout) override {
    return CpuResidual::Make(layout, &shared_.counters);
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(
      HandleKind kind, UniqueFd fd, const ResidualLayout& layout) override {
    if (kind == HandleKind::kInline) return NoSuchKind(kind, "import");
    return CpuResidual::Import(
        layout, kind == HandleKind::kDmaBuf ? MemoryKind::kDmaBuf : MemoryKind::kMemfd,
        std::move(fd));
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(HandleKind kind,
                                                                 const ResidualLayout& layout,
                                                                 UniqueFd* fd) override {
    if (kind != HandleKind::kDmaBuf) return NoSuchKind(kind, "export");
    return CpuResidual::Export(layout, &shared_.counters, fd);
  }

  absl::StatusOr<std::unique_ptr<Program>> Compile(const ModelConfig& config,
                                                   const ProgramSpec& spec) override {
    return CpuProgram::Make(&shared_, config, spec);
  }

  absl::Status Probe() override;

 private:
  static absl::Status NoSuchKind(HandleKind kind, absl::string_view verb) {
    return absl::UnimplementedError(absl::StrCat("CPU device: cannot ", verb, " a residual as '",
                                                 std::string(NameOf(kind)), "'"));
  }

  DeviceInfo info_;
  MemoryDeclaration memory_;
  CpuShared shared_;
};

// Multiplies a small matrix by a vector on the executor and the pool; every value of the answer is
// known and exact.
class ProbeJob final : public CpuJob {
 public:
  static constexpr std::int64_t kRows = 64;
  static constexpr std::int64_t kCols = 96;

  explicit ProbeJob(ThreadPool* pool) : pool_(pool), matrix_(kRows * kCols), out_(kRows) {
    for (std::int64_t i = 0; i < kRows * kCols; ++i) {
      matrix_[static_cast<std::size_t>(i)] = FloatToBf16(static_cast<float>(i / kCols % 8 - i % 4));
    }
    for (std::int64_t c = 0; c < kCols; ++c) vector_.push_back(static_cast<float>(c % 16));
  }

  void Run() override {
    const MatrixView view{WeightFormat::kBf16, kRows, kCols,
                          reinterpret_cast<const std::uint8_t*>(matrix_.data()), nullptr};
    const FloatRows x{vector_.data(), kCols, 1};
    pool_->ParallelFor(kRows, 16, [&](std::int64_t begin, std::int64_t end, int) {
      FloatProduct(view, begin, end, x, nullptr, out_.data(), kRows);
    });
    std::lock_guard lock(mutex_);
    finished_ = true;
    done_.notify_all();
  }

  absl::Status Check() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return finished_; });
    for (std::int64_t row = 0; row < kRows; ++row) {
      float expected = 0;
      for (std::int64_t c = 0; c < kCols; ++c) {
        expected += static_cast<float>((row % 8 - (row * kCols + c) % 4) * (c % 16));
      }
      if (const float found = out_[static_cast<std::size_t>(row)]; found != expected) {
        return absl::UnavailableError(absl::StrCat("CPU device: probe: row ", row,
                                                   " of a small product: expected ", expected,
                                                   ", found ", found));
      }
    }
    return absl::OkStatus();
  }

 private:
  ThreadPool* pool_;
  std::vector<std::uint16_t> matrix_;
  std::vector<float> vector_;
  std::vector<float> out_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool finished_ = false;
};

absl::Status CpuDevice::Probe() {
  ProbeJob job(&shared_.pool);
  shared_.executor.Enqueue(&job);
  return job.Check();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("CPU device: expected 0 to ", kMaxThreads,
                                                   " threads, found ", options.threads));
  }
  return std::make_unique<CpuDevice>(options.threads == 0 ? UsableCpus() : options.threads,
                                     options.products);
}

}  // namespace tandem
