#include "gpu-worker/vulkan/logical_device.h"

#include <utility>
#include <vector>

#include "gpu-worker/vulkan/kernel_features.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

std::vector<const char*> WantedExtensions(const PhysicalDevice& physical) {
  std::vector<const char*> names;
  if (physical.host_pointer_alignment != 0) {
    names.push_back(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  }
  if (physical.external_fd) names.push_back(VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
  if (physical.dma_buf_import || physical.dma_buf_export) {
    names.push_back(VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
  }
  if (physical.foreign_queue) names.push_back(VK_EXT_QUEUE_FAMILY_FOREIGN_EXTENSION_NAME);
  return names;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogicalDevice>> LogicalDevice::Create(
    const PhysicalDevice& physical, std::span<const std::byte> pipelines) {
  auto device = std::unique_ptr<LogicalDevice>(new LogicalDevice(physical));
  const float priority = 1.0f;
  std::vector<VkDeviceQueueCreateInfo> queues;
  for (const Queue kind : {Queue::kCompute, Queue::kTransfer}) {
    if (kind == Queue::kTransfer && !physical.transfer_family.has_value()) continue;
    auto queue = Structure<VkDeviceQueueCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO);
    queue.queueFamilyIndex = device->FamilyOf(kind);
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    queues.push_back(queue);
  }
  KernelFeatures features(physical);
  features.v12().timelineSemaphore = VK_TRUE;  // every 1.2 driver has it
  std::vector<const char*> extensions = WantedExtensions(physical);
  for (const char* name : features.extensions()) extensions.push_back(name);
  auto info = Structure<VkDeviceCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO);
  info.pNext = features.chain();
  info.queueCreateInfoCount = static_cast<std::uint32_t>(queues.size());
  info.pQueueCreateInfos = queues.data();
  info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateDevice(physical.handle, &info, nullptr, &device->device_),
                                  Cat("opening Vulkan device \"", physical.name, "\"")));
  auto cache = Structure<VkPipelineCacheCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO);
  cache.initialDataSize = pipelines.size();
  cache.pInitialData = pipelines.data();
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreatePipelineCache(device->device_, &cache, nullptr, &device->pipeline_cache_),
               "creating a pipeline cache"));
  vkGetDeviceQueue(device->device_, device->FamilyOf(Queue::kCompute), 0, &device->compute_queue_);
  vkGetDeviceQueue(device->device_, device->FamilyOf(Queue::kTransfer), 0,
                   &device->transfer_queue_);
  const auto load = [&](const char* name) { return vkGetDeviceProcAddr(device->device_, name); };
  if (physical.host_pointer_alignment != 0) {
    device->get_host_pointer_properties = reinterpret_cast<PFN_vkGetMemoryHostPointerPropertiesEXT>(
        load("vkGetMemoryHostPointerPropertiesEXT"));
  }
  if (physical.external_fd) {
    device->get_fd = reinterpret_cast<PFN_vkGetMemoryFdKHR>(load("vkGetMemoryFdKHR"));
    device->get_fd_properties =
        reinterpret_cast<PFN_vkGetMemoryFdPropertiesKHR>(load("vkGetMemoryFdPropertiesKHR"));
  }
  return device;
}

LogicalDevice::~LogicalDevice() {
  if (device_ == VK_NULL_HANDLE) return;
  vkDeviceWaitIdle(device_);
  vkDestroyPipelineCache(device_, pipeline_cache_, nullptr);
  vkDestroyDevice(device_, nullptr);
}

absl::StatusOr<std::vector<std::byte>> LogicalDevice::PipelineData() const {
  std::size_t bytes = 0;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkGetPipelineCacheData(device_, pipeline_cache_, &bytes, nullptr),
                                  "reading the pipeline cache"));
  std::vector<std::byte> data(bytes);
  // What another thread compiled meanwhile is left out.
  const VkResult result = vkGetPipelineCacheData(device_, pipeline_cache_, &bytes, data.data());
  if (result != VK_INCOMPLETE) {
    TANDEM_RETURN_IF_ERROR(ToStatus(result, "reading the pipeline cache"));
  }
  data.resize(bytes);
  return data;
}

std::uint32_t LogicalDevice::FamilyOf(Queue queue) const {
  return queue == Queue::kCompute ? physical_.compute_family
                                  : physical_.transfer_family.value_or(physical_.compute_family);
}

absl::Status LogicalDevice::Submit(std::span<const VkCommandBuffer> commands, VkSemaphore timeline,
                                   std::uint64_t value, Queue queue) {
  auto signal =
      Structure<VkTimelineSemaphoreSubmitInfo>(VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
  signal.signalSemaphoreValueCount = 1;
  signal.pSignalSemaphoreValues = &value;
  auto info = Structure<VkSubmitInfo>(VK_STRUCTURE_TYPE_SUBMIT_INFO);
  info.pNext = &signal;
  info.commandBufferCount = static_cast<std::uint32_t>(commands.size());
  info.pCommandBuffers = commands.data();
  info.signalSemaphoreCount = 1;
  info.pSignalSemaphores = &timeline;
  counters_.submissions.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard lock(queue_mutex_);
  return ToStatus(vkQueueSubmit(queue == Queue::kCompute ? compute_queue_ : transfer_queue_, 1,
                                &info, VK_NULL_HANDLE),
                  "submitting work");
}

absl::StatusOr<std::uint32_t> LogicalDevice::MemoryType(std::uint32_t allowed,
                                                        VkMemoryPropertyFlags required,
                                                        VkMemoryPropertyFlags preferred,
                                                        VkMemoryPropertyFlags unwanted) const {
  const std::pair<VkMemoryPropertyFlags, VkMemoryPropertyFlags> wishes[] = {
      {required | preferred, unwanted}, {required | preferred, 0}, {required, 0}};
  for (const auto& [wanted, without] : wishes) {
    for (std::uint32_t i = 0; i < physical_.memory.memoryTypeCount; ++i) {
      const VkMemoryPropertyFlags flags = physical_.memory.memoryTypes[i].propertyFlags;
      if ((allowed & (1u << i)) != 0 && (flags & (wanted | without)) == wanted) return i;
    }
  }
  return absl::NotFoundError(Cat("device \"", physical_.name,
                                 "\" has no memory type with the properties ", required, " among ",
                                 allowed));
}

}  // namespace tandem::vulkan
