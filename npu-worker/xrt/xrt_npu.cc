#include "npu-worker/xrt/xrt_npu.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <xrt/experimental/xrt_system.h>
#include <xrt/experimental/xrt_version.h>
#include <xrt/experimental/xrt_xclbin.h>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"
#include "npu-worker/package/npu_family.h"
#include "npu-worker/product/product_sequence.h"
#include "npu-worker/xrt/xrt_status.h"

namespace tandem::npu {
namespace {

// Arguments of an mlir-aie design's kernel: operation, instructions, their number, buffers.
constexpr int kInstructionsArgument = 1;
constexpr int kFirstBufferArgument = 3;
constexpr std::uint64_t kRunTransaction = 3;

// How long a destructor waits for what is under way.
constexpr absl::Duration kLastWait = absl::Seconds(5);

// Of the library that runs, which need not be the one this was built with.
std::string XrtVersion() {
  return absl::StrCat(xrt::version::code() >> 16, ".", xrt::version::code() & 0xffff);
}

// The first line of a file of the kernel, or an empty text.
std::string FirstLine(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// The driver of the kernel has a version of its own only where it is built apart from it.
std::string DriverVersion() {
  const std::string version = FirstLine("/sys/module/amdxdna/version");
  if (!version.empty()) return version;
  utsname kernel{};
  ::uname(&kernel);
  return absl::StrCat("of Linux ", kernel.release);
}

std::chrono::milliseconds Milliseconds(Deadline deadline) {
  // XRT takes 0 as "for ever": a deadline that has passed still asks once.
  const std::int64_t left = absl::ToInt64Milliseconds(std::min(deadline.left(), absl::Hours(1)) +
                                                      absl::Microseconds(999));
  return std::chrono::milliseconds(std::max<std::int64_t>(left, 1));
}

absl::Status StatusOfState(ert_cmd_state state) {
  switch (state) {
    case ERT_CMD_STATE_COMPLETED:
      return absl::OkStatus();
    case ERT_CMD_STATE_NEW:
    case ERT_CMD_STATE_QUEUED:
    case ERT_CMD_STATE_SUBMITTED:
    case ERT_CMD_STATE_RUNNING:
      return absl::DeadlineExceededError("NPU: the command is still running");
    case ERT_CMD_STATE_TIMEOUT:
    case ERT_CMD_STATE_NORESPONSE:
      return absl::UnavailableError("NPU: the command did not end and the driver reset it");
    case ERT_CMD_STATE_ABORT:
      return absl::UnavailableError("NPU: the command was aborted, its context is lost");
    default:
      return absl::InternalError(
          absl::StrCat("NPU: the command failed with state ", static_cast<int>(state)));
  }
}

}  // namespace

absl::StatusOr<std::vector<NpuInfo>> ListNpus() {
  return Guarded("XRT: listing devices", []() -> absl::StatusOr<std::vector<NpuInfo>> {
    std::vector<NpuInfo> npus;
    const unsigned count = xrt::system::enumerate_devices();
    for (unsigned i = 0; i < count; ++i) {
      const xrt::device device(i);
      NpuInfo info;
      info.index = i;
      info.name = device.get_info<xrt::info::device::name>();
      info.address = device.get_info<xrt::info::device::bdf>();
      info.xrt = XrtVersion();
      info.firmware = FirstLine("/sys/bus/pci/devices/" + info.address + "/fw_version");
      info.driver = DriverVersion();
      const absl::StatusOr<ArrayShape> array = ArrayOfNpu(info.name);
      // Another of XRT's devices: no NPU of ours.
      if (!array.ok()) continue;
      info.array = *array;
      npus.push_back(std::move(info));
    }
    return npus;
  });
}

absl::StatusOr<NpuBuffer> NpuBuffer::Allocate(const NpuInfo& info, std::uint64_t bytes) {
  return Guarded(absl::StrCat("NPU: allocating ", bytes, " bytes to share"),
                 [&]() -> absl::StatusOr<NpuBuffer> {
                   NpuBuffer buffer;
                   // Host memory lies in no bank of a device: the group says nothing.
                   buffer.bo_ = xrt::bo(xrt::device(info.index), bytes, XRT_BO_FLAGS_HOST_ONLY, 0);
                   buffer.bytes_ = {buffer.bo_.map<std::byte*>(), bytes};
                   return buffer;
                 });
}

absl::Status NpuBuffer::Flush(std::uint64_t offset, std::uint64_t size) {
  return Guarded("NPU: flushing a buffer", [&] {
    bo_.sync(XCL_BO_SYNC_BO_TO_DEVICE, size, offset);
    return absl::OkStatus();
  });
}

absl::Status NpuBuffer::Fetch(std::uint64_t offset, std::uint64_t size) {
  return Guarded("NPU: fetching a buffer", [&] {
    bo_.sync(XCL_BO_SYNC_BO_FROM_DEVICE, size, offset);
    return absl::OkStatus();
  });
}

absl::StatusOr<UniqueFd> NpuBuffer::Export() {
  return Guarded("NPU: exporting a buffer", [&]() -> absl::StatusOr<UniqueFd> {
    // XRT keeps the descriptor that it gives out.
    UniqueFd fd(fcntl(bo_.export_buffer(), F_DUPFD_CLOEXEC, 3));
    if (!fd.valid()) return absl::ResourceExhaustedError("no file descriptor is left");
    return fd;
  });
}

NpuCall::~NpuCall() {
  if (running_) static_cast<void>(Wait(Deadline::After(kLastWait)));
  if (!running_) return;
  // XRT ends the process when a run is destroyed that the device still works on, and the device
  // would write into memory that is no longer its own: both stay, for as long as the process does.
  static_cast<void>(new xrt::run(std::move(run_)));
  for (NpuBuffer& buffer : buffers_) static_cast<void>(new NpuBuffer(std::move(buffer)));
  static_cast<void>(new std::shared_ptr<xrt::bo>(std::move(instructions_)));
}

absl::Status NpuCall::Start() {
  return Guarded("NPU: starting a call", [&] {
    run_.start();
    running_ = true;
    return absl::OkStatus();
  });
}

absl::Status NpuCall::Wait(Deadline deadline) {
  return Guarded("NPU: waiting for a call", [&] {
    const ert_cmd_state state = run_.wait(Milliseconds(deadline));
    // XRT's own timeout and the driver's share a name.
    if (state == ERT_CMD_STATE_TIMEOUT && deadline.passed() &&
        run_.state() != ERT_CMD_STATE_TIMEOUT) {
      return absl::DeadlineExceededError("NPU: the command is still running");
    }
    const absl::Status status = StatusOfState(state);
    running_ = absl::IsDeadlineExceeded(status);
    return status;
  });
}

NpuRunList::~NpuRunList() {
  if (running_) static_cast<void>(Wait(Deadline::After(kLastWait)));
  if (!running_) return;
  // As in ~NpuCall.
  static_cast<void>(new xrt::runlist(std::move(list_)));
}

absl::Status NpuRunList::Add(const NpuCall& call) {
  return Guarded("NPU: adding to a run list", [&] {
    list_.add(call.run_);
    return absl::OkStatus();
  });
}

absl::Status NpuRunList::Start() {
  return Guarded("NPU: starting a run list", [&] {
    list_.execute();
    running_ = true;
    return absl::OkStatus();
  });
}

absl::Status NpuRunList::Wait(Deadline deadline) {
  return Guarded("NPU: waiting for a run list", [&] {
    try {
      if (list_.wait(Milliseconds(deadline)) == std::cv_status::timeout) {
        return absl::DeadlineExceededError("NPU: the command is still running");
      }
      running_ = false;
      return absl::OkStatus();
    } catch (const xrt::runlist::command_error& e) {
      const absl::Status status = StatusOfState(e.get_command_state());
      running_ = absl::IsDeadlineExceeded(status);
      return status;
    }
  });
}

absl::StatusOr<std::unique_ptr<XrtNpu>> XrtNpu::Open(const NpuInfo& info,
                                                     const KernelPackage& package) {
  if (!(package.array == info.array)) {
    return absl::InvalidArgumentError(absl::StrCat(
        package.xclbin_file, ": expected kernels for ", info.array.columns, " columns of '",
        info.name, "', found some for ", package.array.columns, " columns"));
  }
  return Guarded(absl::StrCat("NPU: opening ", info.name),
                 [&]() -> absl::StatusOr<std::unique_ptr<XrtNpu>> {
                   std::unique_ptr<XrtNpu> npu(new XrtNpu);
                   npu->info_ = info;
                   npu->package_ = package;
                   npu->device_ = xrt::device(info.index);
                   const xrt::xclbin xclbin(package.xclbin);
                   npu->device_.register_xclbin(xclbin);
                   npu->context_ = xrt::hw_context(npu->device_, xclbin.get_uuid());
                   npu->kernel_ = xrt::kernel(npu->context_, package.kernel);
                   return npu;
                 });
}

absl::StatusOr<NpuBuffer> XrtNpu::Allocate(std::uint64_t bytes) {
  return Guarded(
      absl::StrCat("NPU: allocating ", bytes, " bytes"), [&]() -> absl::StatusOr<NpuBuffer> {
        NpuBuffer buffer;
        buffer.bo_ =
            xrt::bo(device_, bytes, XRT_BO_FLAGS_HOST_ONLY, kernel_.group_id(kFirstBufferArgument));
        buffer.bytes_ = {buffer.bo_.map<std::byte*>(), bytes};
        return buffer;
      });
}

absl::StatusOr<NpuBuffer> XrtNpu::AllocatePinned(std::uint64_t bytes) {
  const std::size_t whole = RoundUp(bytes, PageSize());
  void* at = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("NPU: allocating ", bytes, " bytes to pin: ", std::strerror(errno)));
  }
  const std::shared_ptr<void> pages(at, [whole](void* memory) { munmap(memory, whole); });
  // Large pages are fewer for the kernel to pin; where there are none it has said nothing wrong.
  static_cast<void>(madvise(at, whole, MADV_HUGEPAGE));
  // What a child that this process may start wrote to would be another page than the NPU's.
  static_cast<void>(madvise(at, whole, MADV_DONTFORK));
  TANDEM_ASSIGN_OR_RETURN(NpuBuffer buffer, PinHostMemory({static_cast<std::byte*>(at), whole}));
  buffer.pages_ = pages;
  return buffer;
}

absl::StatusOr<NpuBuffer> XrtNpu::PinHostMemory(std::span<std::byte> pages) {
  return Guarded(absl::StrCat("NPU: pinning ", pages.size(), " bytes"),
                 [&]() -> absl::StatusOr<NpuBuffer> {
                   NpuBuffer buffer;
                   buffer.bo_ = xrt::bo(device_, pages.data(), pages.size(), XRT_BO_FLAGS_HOST_ONLY,
                                        kernel_.group_id(kFirstBufferArgument));
                   buffer.bytes_ = pages;
                   return buffer;
                 });
}

absl::StatusOr<NpuBuffer> XrtNpu::Import(UniqueFd fd) {
  return Guarded("NPU: importing a buffer", [&]() -> absl::StatusOr<NpuBuffer> {
    NpuBuffer buffer;
    buffer.bo_ = xrt::bo(device_, fd.get());
    buffer.bytes_ = {buffer.bo_.map<std::byte*>(), buffer.bo_.size()};
    return buffer;
  });
}

absl::StatusOr<std::unique_ptr<NpuCall>> XrtNpu::Prepare(const ProductLayout& layout,
                                                         const NpuBuffer& weights,
                                                         const NpuBuffer& activations,
                                                         const NpuBuffer& output) {
  if (package_.kind != KernelKind::kProduct || !(layout.array() == info_.array) ||
      layout.shape().int4 != package_.int4) {
    return absl::InvalidArgumentError("NPU: the product is not laid out for the loaded design");
  }
  if (weights.bytes_.size() < layout.weight_bytes() ||
      activations.bytes_.size() < layout.activation_bytes() ||
      output.bytes_.size() < layout.output_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "NPU: expected buffers of ", layout.weight_bytes(), ", ", layout.activation_bytes(),
        " and ", layout.output_bytes(), " bytes, found ", weights.bytes_.size(), ", ",
        activations.bytes_.size(), " and ", output.bytes_.size()));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> words,
                          ProductInstructions(layout, package_.parameter_address));
  static_assert(kWeightsArgument == 0 && kActivationsArgument == 1 && kOutputArgument == 2);
  return PrepareCall(words, {weights, activations, output});
}

absl::StatusOr<std::unique_ptr<NpuCall>> XrtNpu::PrepareCall(
    const std::vector<std::uint32_t>& words, std::vector<NpuBuffer> buffers) {
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<xrt::bo> instructions, InstructionsOf(words));
  return Guarded("NPU: preparing a call", [&]() -> absl::StatusOr<std::unique_ptr<NpuCall>> {
    auto call = std::make_unique<NpuCall>();
    call->buffers_ = std::move(buffers);
    call->instructions_ = std::move(instructions);
    call->run_ = xrt::run(kernel_);
    call->run_.set_arg(0, kRunTransaction);
    call->run_.set_arg(kInstructionsArgument, *call->instructions_);
    call->run_.set_arg(2, static_cast<std::uint32_t>(words.size()));
    for (std::size_t i = 0; i < call->buffers_.size(); ++i)
      call->run_.set_arg(kFirstBufferArgument + static_cast<int>(i), call->buffers_[i].bo_);
    return call;
  });
}

absl::StatusOr<std::shared_ptr<xrt::bo>> XrtNpu::InstructionsOf(
    const std::vector<std::uint32_t>& words) {
  std::weak_ptr<xrt::bo>& kept = instructions_[words];
  if (std::shared_ptr<xrt::bo> there = kept.lock(); there != nullptr) return there;
  return Guarded("NPU: loading instructions", [&]() -> absl::StatusOr<std::shared_ptr<xrt::bo>> {
    auto made = std::make_shared<xrt::bo>(device_, words.size() * 4, XCL_BO_FLAGS_CACHEABLE,
                                          kernel_.group_id(kInstructionsArgument));
    std::memcpy(made->map<void*>(), words.data(), words.size() * 4);
    made->sync(XCL_BO_SYNC_BO_TO_DEVICE);
    kept = made;
    return made;
  });
}

absl::StatusOr<std::unique_ptr<NpuRunList>> XrtNpu::NewRunList() {
  return Guarded("NPU: making a run list", [&]() -> absl::StatusOr<std::unique_ptr<NpuRunList>> {
    auto list = std::make_unique<NpuRunList>();
    list->list_ = xrt::runlist(context_);
    return list;
  });
}

}  // namespace tandem::npu
