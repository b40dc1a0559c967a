#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/pipeline.h"
#include "gpu-worker/vulkan/timeline.h"

namespace tandem {

// One dispatch of a kernel, ready to be recorded. The pipeline must outlive its use.
struct BenchDispatch {
  const vulkan::Pipeline* pipeline = nullptr;
  std::vector<vulkan::BufferSlice> bindings;
  std::vector<std::byte> push;
  vulkan::Groups groups;
};

// A device and how to time dispatches on it. One thread.
class BenchDevice {
 public:
  // `name`: "auto" or a part of a device's name.
  static absl::StatusOr<std::unique_ptr<BenchDevice>> Create(const std::string& name);

  const vulkan::LogicalDevice& device() const { return *device_; }
  absl::StatusOr<std::unique_ptr<vulkan::Pipeline>> MakePipeline(
      std::string_view kernel, const std::vector<std::uint32_t>& constants) const;
  absl::StatusOr<vulkan::Buffer> MakeBuffer(std::uint64_t bytes) const;
  // Random bytes that are finite numbers whichever way they are read.
  absl::Status Fill(const vulkan::Buffer& buffer);

  // Seconds of one dispatch: `repeats` of them in turn, in one command buffer, with a barrier
  // behind each if `barriers`; the median of several runs.
  absl::StatusOr<double> Time(const std::vector<BenchDispatch>& dispatches, int repeats,
                              bool barriers = true);

  // Bytes read plus bytes written in a second.
  absl::StatusOr<double> CopyBandwidth(bool small);

 private:
  BenchDevice() = default;
  absl::StatusOr<double> RunMedian(const vulkan::CommandBuffer& commands);

  std::unique_ptr<vulkan::Instance> instance_;
  std::unique_ptr<vulkan::LogicalDevice> device_;
  vulkan::Timeline timeline_;
  std::uint64_t value_ = 0;
};

}  // namespace tandem
