#include "gpu-worker/vulkan/command_buffer.h"

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"

namespace tandem::vulkan {
namespace {

constexpr VkAccessFlags kShaderAccess = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
constexpr VkAccessFlags kCopyAccess = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;

}  // namespace

CommandPool::~CommandPool() {
  if (pool_ != VK_NULL_HANDLE) vkDestroyCommandPool(device_->handle(), pool_, nullptr);
}

VkPipelineStageFlags CommandBuffer::stages() const {
  VkPipelineStageFlags stages = VK_PIPELINE_STAGE_TRANSFER_BIT;
  if (!copies_only_) stages |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
  return stages;
}
VkAccessFlags CommandBuffer::writes() const {
  VkAccessFlags accesses = VK_ACCESS_TRANSFER_WRITE_BIT;
  if (!copies_only_) accesses |= VK_ACCESS_SHADER_WRITE_BIT;
  return accesses;
}
VkAccessFlags CommandBuffer::accesses() const {
  return copies_only_ ? kCopyAccess : kCopyAccess | kShaderAccess;
}

absl::StatusOr<CommandPool> CommandPool::Create(const LogicalDevice& device, Queue queue) {
  auto info = Structure<VkCommandPoolCreateInfo>(VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO);
  info.queueFamilyIndex = device.FamilyOf(queue);
  CommandPool pool;
  pool.device_ = &device;
  pool.queue_ = queue;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateCommandPool(device.handle(), &info, nullptr, &pool.pool_),
                                  "creating a command pool"));
  return pool;
}

absl::StatusOr<CommandBuffer> CommandPool::Begin() {
  auto allocate =
      Structure<VkCommandBufferAllocateInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO);
  allocate.commandPool = pool_;
  allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  allocate.commandBufferCount = 1;
  VkCommandBuffer handle = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkAllocateCommandBuffers(device_->handle(), &allocate, &handle),
                                  "allocating a command buffer"));
  auto begin = Structure<VkCommandBufferBeginInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO);
  begin.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
  device_->counters().command_recordings.fetch_add(1, std::memory_order_relaxed);
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkBeginCommandBuffer(handle, &begin), "beginning a command buffer"));
  CommandBuffer commands(device_, handle,
                         device_->FamilyOf(queue_) != device_->FamilyOf(Queue::kCompute));
  commands.Memory(commands.stages() | VK_PIPELINE_STAGE_HOST_BIT,
                  commands.writes() | VK_ACCESS_HOST_WRITE_BIT, commands.stages(),
                  commands.accesses());
  return commands;
}

void CommandBuffer::Memory(VkPipelineStageFlags from, VkAccessFlags from_access,
                           VkPipelineStageFlags to, VkAccessFlags to_access) {
  auto barrier = Structure<VkMemoryBarrier>(VK_STRUCTURE_TYPE_MEMORY_BARRIER);
  barrier.srcAccessMask = from_access;
  barrier.dstAccessMask = to_access;
  vkCmdPipelineBarrier(commands_, from, to, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

void CommandBuffer::Dispatch(const Pipeline& pipeline, VkDescriptorSet set,
                             std::span<const std::byte> push, Groups groups) {
  TANDEM_CHECK(push.size() == pipeline.push_bytes());
  vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.handle());
  vkCmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.layout(), 0, 1, &set,
                          0, nullptr);
  if (!push.empty()) {
    vkCmdPushConstants(commands_, pipeline.layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0,
                       static_cast<std::uint32_t>(push.size()), push.data());
  }
  vkCmdDispatch(commands_, groups.x, groups.y, groups.z);
}

void CommandBuffer::Barrier() {
  // Of dispatches alone: a copy in it would cost each of hundreds a step some time.
  Memory(VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
         VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, kShaderAccess);
}

void CommandBuffer::ResetTimestamps(const Timestamps& timestamps, std::uint32_t first,
                                    std::uint32_t count) {
  vkCmdResetQueryPool(commands_, timestamps.handle(), first, count);
}

void CommandBuffer::Timestamp(const Timestamps& timestamps, std::uint32_t index) {
  vkCmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, timestamps.handle(), index);
}

void CommandBuffer::Copy(const BufferSlice& from, const BufferSlice& to) {
  TANDEM_CHECK(from.bytes == to.bytes);
  const VkBufferCopy copy{from.offset, to.offset, from.bytes};
  vkCmdCopyBuffer(commands_, from.buffer, to.buffer, 1, &copy);
}

void CommandBuffer::Clear(const BufferSlice& slice) {
  vkCmdFillBuffer(commands_, slice.buffer, slice.offset, slice.bytes, 0);
  Memory(VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
         VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, kShaderAccess);
}

void CommandBuffer::Transfer(VkBuffer buffer, bool acquire) {
  constexpr VkPipelineStageFlags kTop = VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT;
  constexpr VkPipelineStageFlags kBottom = VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT;
  const PhysicalDevice& physical = device_->physical();
  const std::uint32_t other =
      physical.foreign_queue ? VK_QUEUE_FAMILY_FOREIGN_EXT : VK_QUEUE_FAMILY_EXTERNAL;
  auto barrier = Structure<VkBufferMemoryBarrier>(VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER);
  barrier.srcAccessMask = acquire ? 0 : writes();
  barrier.dstAccessMask = acquire ? accesses() : 0;
  barrier.srcQueueFamilyIndex = acquire ? other : physical.compute_family;
  barrier.dstQueueFamilyIndex = acquire ? physical.compute_family : other;
  barrier.buffer = buffer;
  barrier.size = VK_WHOLE_SIZE;
  vkCmdPipelineBarrier(commands_, acquire ? kTop : stages(), acquire ? stages() : kBottom, 0, 0,
                       nullptr, 1, &barrier, 0, nullptr);
}

void CommandBuffer::AcquireExternal(VkBuffer buffer) { Transfer(buffer, true); }
void CommandBuffer::ReleaseExternal(VkBuffer buffer) { Transfer(buffer, false); }

absl::Status CommandBuffer::Finish() {
  Memory(stages(), writes(), VK_PIPELINE_STAGE_HOST_BIT,
         VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT);
  return ToStatus(vkEndCommandBuffer(commands_), "ending a command buffer");
}

}  // namespace tandem::vulkan
