#include "tests/unit/gpu-worker/kernel_runner.h"

#include <algorithm>
#include <bit>

#include "absl/time/time.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/status_macros.h"
#include "tests/unit/gpu-worker/test_device.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<KernelRunner>> KernelRunner::Create() {
  auto runner = std::unique_ptr<KernelRunner>(new KernelRunner);
  auto* const messages = &runner->messages_;
  const auto collect = [messages](std::string_view text) { messages->emplace_back(text); };
  TANDEM_ASSIGN_OR_RETURN(runner->instance_,
                          vulkan::Instance::Create(HasValidationLayer(), collect));
  TANDEM_ASSIGN_OR_RETURN(const auto devices,
                          vulkan::ListPhysicalDevices(runner->instance_->handle()));
  TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, "0"));
  TANDEM_ASSIGN_OR_RETURN(runner->device_, vulkan::LogicalDevice::Create(devices[chosen]));
  runner->pipelines_ = std::make_unique<PipelineLibrary>(*runner->device_);
  return runner;
}

absl::Status KernelRunner::Run(std::string_view kernel, const std::vector<std::uint32_t>& constants,
                               std::span<const std::byte> push, vulkan::Groups groups,
                               std::vector<Bytes>* bindings) {
  std::vector<vulkan::Buffer> buffers;
  std::vector<vulkan::BufferSlice> slices;
  for (const Bytes& binding : *bindings) {
    TANDEM_ASSIGN_OR_RETURN(
        vulkan::Buffer buffer,
        vulkan::Buffer::Create(*device_, binding.size(), vulkan::Placement::kReadback, "binding"));
    std::memcpy(buffer.data(), binding.data(), binding.size());
    slices.push_back(buffer.slice());
    buffers.push_back(std::move(buffer));
  }
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Pipeline* pipeline, pipelines_->Get(kernel, constants));
  TANDEM_ASSIGN_OR_RETURN(
      auto descriptors,
      vulkan::DescriptorPool::Create(*device_, 1, static_cast<std::uint32_t>(slices.size())));
  TANDEM_ASSIGN_OR_RETURN(const VkDescriptorSet set,
                          descriptors.MakeSet(pipeline->descriptor_layout(), slices));
  TANDEM_ASSIGN_OR_RETURN(const auto timeline, vulkan::Timeline::Create(*device_));
  TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(*device_));
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
  commands.Dispatch(*pipeline, set, push, groups);
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  const VkCommandBuffer handle = commands.handle();
  TANDEM_RETURN_IF_ERROR(device_->Submit({&handle, 1}, timeline.handle(), 1));
  TANDEM_RETURN_IF_ERROR(timeline.Wait(1, Deadline::After(absl::Seconds(60))));
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    std::memcpy((*bindings)[i].data(), buffers[i].data(), (*bindings)[i].size());
  }
  return absl::OkStatus();
}

Bytes TestStep::Pack() const {
  kernels::StepHeader header{};
  header.tokens = static_cast<std::uint32_t>(tokens.size());
  header.logit_rows = static_cast<std::uint32_t>(logit_rows.size());
  header.input_base = input_base;
  header.output_base = output_base;
  header.blocks_per_table = blocks_per_table;
  std::vector<std::int32_t> words;
  const auto put = [&words](const std::vector<std::int32_t>& list) {
    const auto at = static_cast<std::uint32_t>(words.size());
    words.insert(words.end(), list.begin(), list.end());
    return at;
  };
  header.token_ids_at = put(tokens);
  header.positions_at = put(positions);
  header.sequences_at = put(sequences);
  header.tiles = static_cast<std::uint32_t>(tiles.size() / 2);
  header.tiles_at = put(tiles);
  std::vector<std::int32_t> tiled(tokens.size(), 0);
  for (std::size_t i = 0; i < tiles.size(); i += 2) {
    std::fill_n(tiled.begin() + tiles[i], tiles[i + 1], 1);
  }
  header.tiled_at = put(tiled);
  header.logit_rows_at = put(logit_rows);
  std::vector<std::int32_t> bits;
  for (const float value : inverse_temperatures) bits.push_back(std::bit_cast<std::int32_t>(value));
  header.inverse_temperatures_at = put(bits);
  header.global_blocks_at = put(blocks);
  header.window_blocks_at = put(blocks);
  words.push_back(0);  // never empty
  Bytes bytes = ToBytes(std::span<const kernels::StepHeader>(&header, 1));
  const Bytes tail = ToBytes(words);
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

}  // namespace tandem
