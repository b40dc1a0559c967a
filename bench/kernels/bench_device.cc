#include "bench/kernels/bench_device.h"

#include <algorithm>
#include <bit>
#include <random>
#include <span>

#include "absl/time/clock.h"
#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/kernels/kernel_table.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using vulkan::Buffer;
using vulkan::Placement;

constexpr std::size_t kRuns = 5;

}  // namespace

absl::StatusOr<std::unique_ptr<BenchDevice>> BenchDevice::Create(const std::string& name) {
  auto bench = std::unique_ptr<BenchDevice>(new BenchDevice);
  TANDEM_ASSIGN_OR_RETURN(bench->instance_, vulkan::Instance::Create(false, nullptr));
  TANDEM_ASSIGN_OR_RETURN(const auto devices,
                          vulkan::ListPhysicalDevices(bench->instance_->handle()));
  TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, name));
  TANDEM_ASSIGN_OR_RETURN(bench->device_, vulkan::LogicalDevice::Create(devices[chosen]));
  TANDEM_ASSIGN_OR_RETURN(bench->timeline_, vulkan::Timeline::Create(*bench->device_));
  return bench;
}

absl::StatusOr<std::unique_ptr<vulkan::Pipeline>> BenchDevice::MakePipeline(
    std::string_view kernel, const std::vector<std::uint32_t>& constants) const {
  return vulkan::Pipeline::Create(*device_, kernels::Find(kernel), constants);
}

absl::StatusOr<Buffer> BenchDevice::MakeBuffer(std::uint64_t bytes) const {
  return Buffer::Create(*device_, bytes, Placement::kDevice, "bench");
}

absl::Status BenchDevice::Fill(const Buffer& buffer) {
  constexpr std::uint64_t kPattern = 8 << 20;
  std::mt19937 random(1);
  TANDEM_ASSIGN_OR_RETURN(Buffer staging,
                          Buffer::Create(*device_, kPattern, Placement::kUpload, "pattern"));
  auto* const words = reinterpret_cast<std::uint32_t*>(staging.data());
  for (std::uint64_t i = 0; i < kPattern / 4; ++i) {
    // As halves, bfloat16 and floats between 0.5 and 2.
    words[i] = (static_cast<std::uint32_t>(random()) & 0x83ff83ffu) | 0x3c003c00u;
  }
  TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(*device_));
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
  for (std::uint64_t at = 0; at < buffer.bytes(); at += kPattern) {
    const std::uint64_t bytes = std::min(kPattern, buffer.bytes() - at);
    commands.Copy({staging.handle(), 0, bytes}, {buffer.handle(), at, bytes});
  }
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  const VkCommandBuffer handle = commands.handle();
  TANDEM_RETURN_IF_ERROR(device_->Submit({&handle, 1}, timeline_.handle(), ++value_));
  return timeline_.Wait(value_, Deadline::After(absl::Seconds(60)));
}

absl::StatusOr<double> BenchDevice::RunMedian(const vulkan::CommandBuffer& commands) {
  std::vector<double> seconds;
  const VkCommandBuffer handle = commands.handle();
  // Clocks rise under load: the first run and the first milliseconds are not counted.
  const absl::Time warm = absl::Now() + absl::Milliseconds(10);
  bool first = true;
  while (seconds.size() < kRuns) {
    const absl::Time start = absl::Now();
    TANDEM_RETURN_IF_ERROR(device_->Submit({&handle, 1}, timeline_.handle(), ++value_));
    TANDEM_RETURN_IF_ERROR(timeline_.Wait(value_, Deadline::After(absl::Seconds(60))));
    if (!first && start > warm) seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    first = false;
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

absl::StatusOr<double> BenchDevice::Time(const std::vector<BenchDispatch>& dispatches, int repeats,
                                         bool barriers) {
  std::uint32_t buffers = 0;
  for (const BenchDispatch& dispatch : dispatches) {
    buffers += static_cast<std::uint32_t>(dispatch.bindings.size());
  }
  TANDEM_ASSIGN_OR_RETURN(auto descriptors,
                          vulkan::DescriptorPool::Create(
                              *device_, static_cast<std::uint32_t>(dispatches.size()), buffers));
  std::vector<VkDescriptorSet> sets;
  for (const BenchDispatch& dispatch : dispatches) {
    TANDEM_ASSIGN_OR_RETURN(
        const VkDescriptorSet set,
        descriptors.MakeSet(dispatch.pipeline->descriptor_layout(), dispatch.bindings));
    sets.push_back(set);
  }
  TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(*device_));
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
  for (int i = 0; i < repeats; ++i) {
    const std::size_t at = static_cast<std::size_t>(i) % dispatches.size();
    commands.Dispatch(*dispatches[at].pipeline, sets[at], dispatches[at].push,
                      dispatches[at].groups);
    if (barriers) commands.Barrier();
  }
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  TANDEM_ASSIGN_OR_RETURN(const double seconds, RunMedian(commands));
  return seconds / repeats;
}

absl::StatusOr<double> BenchDevice::CopyBandwidth(bool small) {
  const std::uint64_t most = std::bit_floor(device_->physical().limits.maxStorageBufferRange);
  const std::uint64_t bytes = std::min<std::uint64_t>(small ? 64 << 20 : 1 << 30, most);
  TANDEM_ASSIGN_OR_RETURN(const Buffer from, MakeBuffer(bytes));
  TANDEM_ASSIGN_OR_RETURN(const Buffer to, MakeBuffer(bytes));
  TANDEM_RETURN_IF_ERROR(Fill(from));
  const kernels::CopyParams params = {static_cast<std::uint32_t>(bytes / 16)};
  TANDEM_ASSIGN_OR_RETURN(const auto pipeline, MakePipeline("copy", {}));
  const auto push = std::as_bytes(std::span(&params, 1));
  const BenchDispatch dispatch{pipeline.get(),
                               {from.slice(), to.slice()},
                               {push.begin(), push.end()},
                               {1024, params.blocks / (512 * 1024), 1}};
  TANDEM_ASSIGN_OR_RETURN(const double seconds, Time({dispatch}, small ? 1 : 8));
  return 2.0 * static_cast<double>(bytes) / seconds;
}

}  // namespace tandem
