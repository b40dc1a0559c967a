#include "npu-worker/xrt/xrt_device.h"

#include <cmath>
#include <utility>
#include <vector>

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_parts.h"
#include "npu-worker/package/npu_family.h"
#include "npu-worker/xrt/npu_products.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem::npu {
namespace {

// Memory of the NPU's driver that a GPU works on, too.
class SharedBuffer final : public SyncedMemory {
 public:
  explicit SharedBuffer(NpuBuffer buffer) : buffer_(std::move(buffer)) {}
  std::span<std::byte> bytes() const override { return buffer_.bytes(); }
  absl::Status Flush(std::uint64_t offset, std::uint64_t size) override {
    return buffer_.Flush(offset, size);
  }
  absl::Status Fetch(std::uint64_t offset, std::uint64_t size) override {
    return buffer_.Fetch(offset, size);
  }

 private:
  NpuBuffer buffer_;
};

absl::StatusOr<std::unique_ptr<CpuResidual>> ExportedResidual(const NpuInfo& npu,
                                                              const ResidualLayout& layout,
                                                              UniqueFd* fd) {
  TANDEM_ASSIGN_OR_RETURN(NpuBuffer buffer, NpuBuffer::Allocate(npu, layout.total_bytes()));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd exported, buffer.Export());
  if (!IsDmaBuf(exported.get())) {
    return absl::UnimplementedError(
        absl::StrCat(npu.name, ": expected its driver to export a dma-buf, found another file"));
  }
  TANDEM_ASSIGN_OR_RETURN(
      auto residual, CpuResidual::Over(layout, std::make_unique<SharedBuffer>(std::move(buffer))));
  *fd = std::move(exported);
  return residual;
}

class XrtDevice final : public Device {
 public:
  XrtDevice(std::unique_ptr<NpuProductUnit> unit, std::unique_ptr<Device> host)
      : unit_(std::move(unit)), host_(std::move(host)), info_(host_->info()) {
    info_.kind = "xrt";
    info_.name = absl::StrCat(unit_->name(), " at ", unit_->info().address);
    // Residuals are read and written by the host's part: host memory, or the driver's, mapped.
    memory_.host_pointer = host_->memory().host_pointer;
    memory_.host_view = host_->memory().host_view;
    UniqueFd fd;
    exports_ = ExportedResidual(unit_->info(), MakeResidualLayout(1, 1, 32), &fd).status();
    if (exports_.ok()) memory_.dma_buf.export_bytes = MemoryAbility::kAny;
    info_.driver = absl::StrCat("XRT ", unit_->info().xrt, "; ", XrtDesign());
  }

  const DeviceInfo& info() const override { return info_; }
  const MemoryDeclaration& memory() const override { return memory_; }
  DeviceCounters counters() const override {
    DeviceCounters counters = host_->counters();
    counters.submissions += unit_->submissions();
    return counters;
  }
  DeviceReport Report() const override;
  absl::StatusOr<std::shared_ptr<const Weights>> Import(std::shared_ptr<const Region> region,
                                                        const ModelConfig& config) override {
    return host_->Import(std::move(region), config);
  }
  absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig& config,
                                                         const KvCacheSpec& spec) override {
    return host_->CreateKvCache(config, spec);
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(
      const ResidualLayout& layout) override {
    return host_->CreateResidual(layout);
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(
      HandleKind kind, UniqueFd fd, const ResidualLayout& layout) override {
    if (kind != HandleKind::kHostPointer) return NoSuchKind(kind, "import");
    return host_->ImportResidual(kind, std::move(fd), layout);
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(HandleKind kind,
                                                                 const ResidualLayout& layout,
                                                                 UniqueFd* fd) override {
    if (kind != HandleKind::kDmaBuf) return NoSuchKind(kind, "export");
    if (!exports_.ok()) return exports_;
    return ExportedResidual(unit_->info(), layout, fd);
  }
  absl::StatusOr<std::unique_ptr<Program>> Compile(const ModelConfig& config,
                                                   const ProgramSpec& spec) override {
    return host_->Compile(config, spec);
  }
  absl::Status Probe() override;

 private:
  absl::Status NoSuchKind(HandleKind kind, const char* verb) const {
    return absl::UnimplementedError(absl::StrCat(
        unit_->name(), ": cannot ", verb, " a residual as '", std::string(NameOf(kind)), "'"));
  }

  // The unit outlives the device that uses it.
  std::unique_ptr<NpuProductUnit> unit_;
  std::unique_ptr<Device> host_;
  DeviceInfo info_;
  MemoryDeclaration memory_;
  // What came of exporting a page when the device was opened.
  absl::Status exports_;
};

// What the host does for stages and for products, and what the NPU does.
DeviceReport XrtDevice::Report() const {
  DeviceReport report = unit_->Report();
  report.facts.push_back(
      {"memory of edges",
       exports_.ok() ? "the driver's, exported as dma-buf"
                     : absl::StrCat("host memory only: ", std::string(exports_.message()))});
  for (DevicePart& part : host_->Report().parts) {
    // Of the unit's it is the sum.
    if (part.name != kCpuPartNames[static_cast<std::size_t>(CpuPart::kProducts)])
      report.parts.push_back(std::move(part));
  }
  return report;
}

// A small product whose every value is known and exact.
absl::Status XrtDevice::Probe() {
  constexpr std::int64_t kRows = 5, kTokens = 3, kCols = 64;
  std::vector<std::uint8_t> values(kRows * kCols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::uint8_t>(static_cast<int>(i % 7) - 3);
  }
  const std::vector<std::uint16_t> scales(kRows * kCols / 32, FloatToHalf(1));
  const MatrixView w = {WeightFormat::kInt8, kRows, kCols, values.data(), scales.data()};
  constexpr std::int64_t kPadded = 32 * kChunkGroups;
  std::vector<std::int8_t> x(kTokens * kPadded);
  std::vector<float> x_scales(kTokens * kChunkGroups, 1.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int8_t>(i % 11);
  QuantizedRows rows;
  rows.plain = x.data();
  rows.scales = x_scales.data();
  rows.cols_padded = kPadded;
  rows.rows = kTokens;
  std::vector<float> out(kTokens * kRows);
  TANDEM_RETURN_IF_ERROR(unit_->Once(w, rows, kCols, out.data()));
  for (std::int64_t i = 0; i < kTokens * kRows; ++i) {
    std::int32_t expected = 0;
    for (std::int64_t c = 0; c < kCols; ++c) {
      expected +=
          static_cast<std::int8_t>(values[i % kRows * kCols + c]) * x[i / kRows * kPadded + c];
    }
    if (out[i] != static_cast<float>(expected)) {
      return absl::UnavailableError(absl::StrCat(unit_->name(), ": probe: value ", i,
                                                 " of a small product: expected ", expected,
                                                 ", found ", out[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string XrtDesign() {
  return "matrix products on the NPU; embedding, norms, RoPE, attention, GeGLU, sampling on the "
         "host";
}

std::uint64_t DefaultWeightsBudget() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 2;
}

absl::StatusOr<std::unique_ptr<Device>> CreateXrtDevice(const XrtDeviceOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<NpuInfo> npus, ListNpus());
  if (npus.empty()) return absl::NotFoundError("XRT: expected an NPU, found none");
  TANDEM_RETURN_IF_ERROR(
      CheckFirmware(npus.front().array, npus.front().name, npus.front().firmware));
  NpuProductOptions products = {options.kernels, options.weights_budget};
  if (products.weights_budget == 0) products.weights_budget = DefaultWeightsBudget();
  auto unit = std::make_unique<NpuProductUnit>(std::move(npus.front()), std::move(products));
  CpuDeviceOptions host;
  host.threads = options.threads;
  host.products = unit.get();
  TANDEM_ASSIGN_OR_RETURN(auto device, CreateCpuDevice(host));
  return std::make_unique<XrtDevice>(std::move(unit), std::move(device));
}

}  // namespace tandem::npu
