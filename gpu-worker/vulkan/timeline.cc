#include "gpu-worker/vulkan/timeline.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"

namespace tandem::vulkan {

Timeline::~Timeline() {
  if (semaphore_ != VK_NULL_HANDLE) vkDestroySemaphore(device_->handle(), semaphore_, nullptr);
}

absl::StatusOr<Timeline> Timeline::Create(const LogicalDevice& device) {
  auto type = Structure<VkSemaphoreTypeCreateInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO);
  type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
  auto info = Structure<VkSemaphoreCreateInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO);
  info.pNext = &type;
  Timeline timeline;
  timeline.device_ = &device;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateSemaphore(device.handle(), &info, nullptr, &timeline.semaphore_),
               "creating a timeline semaphore"));
  return timeline;
}

absl::Status Timeline::Wait(std::uint64_t value, absl::Time deadline) const {
  auto info = Structure<VkSemaphoreWaitInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO);
  info.semaphoreCount = 1;
  info.pSemaphores = &semaphore_;
  info.pValues = &value;
  // An hour stands for ever: drivers add the timeout to a clock and some overflow.
  const absl::Duration left =
      std::clamp(deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(1));
  const VkResult result = vkWaitSemaphores(
      device_->handle(), &info, static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(left)));
  if (result != VK_TIMEOUT) return ToStatus(result, "waiting for the device");
  return absl::DeadlineExceededError("the device has not finished in time");
}

}  // namespace tandem::vulkan
