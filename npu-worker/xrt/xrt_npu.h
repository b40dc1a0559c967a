#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <xrt/experimental/xrt_kernel.h>
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_hw_context.h>
#include <xrt/xrt_kernel.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/base/fd.h"
#include "npu-worker/package/kernel_package.h"
#include "npu-worker/product/product_layout.h"

namespace tandem::npu {

struct NpuInfo {
  unsigned index = 0;
  std::string name;     // as the driver calls it: "NPU Phoenix"
  std::string address;  // on the PCI bus
  // Versions; empty: nobody says.
  std::string xrt;
  std::string firmware;
  std::string driver;  // of the kernel
  ArrayShape array;
  bool operator==(const NpuInfo&) const = default;
};

// The NPUs that XRT sees; none is no error. UNAVAILABLE and the reason where XRT does not work.
absl::StatusOr<std::vector<NpuInfo>> ListNpus();

// Memory that the NPU and the processor share, mapped. The device sees what was flushed to it; what
// it wrote is seen after a fetch. Freed with its last copy.
class NpuBuffer {
 public:
  std::span<std::byte> bytes() const { return bytes_; }
  absl::Status Flush(std::uint64_t offset, std::uint64_t size);  // processor to device
  absl::Status Fetch(std::uint64_t offset, std::uint64_t size);  // device to processor
  // A dma-buf of this memory, for another device. Not for memory that was imported.
  absl::StatusOr<UniqueFd> Export();

  // Zeroed memory of this NPU's driver that no kernel names: for other devices, by Export.
  static absl::StatusOr<NpuBuffer> Allocate(const NpuInfo& info, std::uint64_t bytes);

  // Whether it is memory of this process's own that the driver has pinned.
  bool pinned() const { return pages_ != nullptr; }

 private:
  friend class XrtNpu;
  friend class NpuCall;
  // What AllocatePinned mapped. It goes after the driver has let go of it.
  std::shared_ptr<void> pages_;
  xrt::bo bo_;
  std::span<std::byte> bytes_;
};

// One call of a design, such as a product, ready to run any number of times: its instructions and
// its buffers. One thread at a time.
class NpuCall {
 public:
  NpuCall() = default;
  NpuCall(const NpuCall&) = delete;
  NpuCall& operator=(const NpuCall&) = delete;
  // Waits for a run that is under way, a few seconds at most.
  ~NpuCall();

  absl::Status Start();
  // DEADLINE_EXCEEDED leaves it running. UNAVAILABLE: the driver gave the command or its context
  // up. INTERNAL: the command failed.
  absl::Status Wait(Deadline deadline);

 private:
  friend class XrtNpu;
  friend class NpuRunList;
  // Kept as long as the run names them, so they go after it.
  std::vector<NpuBuffer> buffers_;
  std::shared_ptr<xrt::bo> instructions_;
  xrt::run run_;
  bool running_ = false;
};

// Calls that the NPU runs one after another from one submission.
class NpuRunList {
 public:
  NpuRunList() = default;
  NpuRunList(const NpuRunList&) = delete;
  NpuRunList& operator=(const NpuRunList&) = delete;
  ~NpuRunList();  // as NpuCall's

  // The calls must outlive the list.
  absl::Status Add(const NpuCall& call);
  absl::Status Start();
  absl::Status Wait(Deadline deadline);  // as NpuCall::Wait

 private:
  friend class XrtNpu;
  xrt::runlist list_;
  bool running_ = false;
};

// One NPU with one design loaded in one hardware context. One thread at a time.
class XrtNpu {
 public:
  // INVALID_ARGUMENT: the package is for another array. RESOURCE_EXHAUSTED: all contexts of the NPU
  // are taken.
  static absl::StatusOr<std::unique_ptr<XrtNpu>> Open(const NpuInfo& info,
                                                      const KernelPackage& package);
  const NpuInfo& info() const { return info_; }
  const KernelPackage& package() const { return package_; }

  absl::StatusOr<NpuBuffer> Allocate(std::uint64_t bytes);
  // Memory of this process that the driver pins in place, as a user pointer. RESOURCE_EXHAUSTED:
  // more than RLIMIT_MEMLOCK.
  absl::StatusOr<NpuBuffer> AllocatePinned(std::uint64_t bytes);
  // Whole pages of this process, pinned likewise; they must outlive the buffer. The driver pins
  // what may be written to, and nothing else: no mapping of a region of weights.
  absl::StatusOr<NpuBuffer> PinHostMemory(std::span<std::byte> pages);
  // Memory that another process's NPU exported. INVALID_ARGUMENT: anything else, a GPU's memory
  // above all.
  absl::StatusOr<NpuBuffer> Import(UniqueFd fd);

  // Buffers of at least the layout's sizes. Products of one shape share their instructions: the
  // heap that these come from has room for 2,048 of them.
  absl::StatusOr<std::unique_ptr<NpuCall>> Prepare(const ProductLayout& layout,
                                                   const NpuBuffer& weights,
                                                   const NpuBuffer& activations,
                                                   const NpuBuffer& output);
  // A call with instructions and buffers of the loaded design's, in the order of its arguments.
  absl::StatusOr<std::unique_ptr<NpuCall>> PrepareCall(const std::vector<std::uint32_t>& words,
                                                       std::vector<NpuBuffer> buffers);
  absl::StatusOr<std::unique_ptr<NpuRunList>> NewRunList();

 private:
  XrtNpu() = default;
  absl::StatusOr<std::shared_ptr<xrt::bo>> InstructionsOf(const std::vector<std::uint32_t>& words);

  NpuInfo info_;
  KernelPackage package_;
  xrt::device device_;
  xrt::hw_context context_;
  xrt::kernel kernel_;
  // As long as a product uses them.
  std::map<std::vector<std::uint32_t>, std::weak_ptr<xrt::bo>> instructions_;
};

}  // namespace tandem::npu
