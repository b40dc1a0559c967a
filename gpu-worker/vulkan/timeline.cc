#include "gpu-worker/vulkan/timeline.h"

#include <algorithm>

#include "absl/time/time.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/clock.h"
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

absl::Status Timeline::Wait(std::uint64_t value, Deadline deadline) const {
  // Drivers add the timeout to a clock and some overflow; a wait without end takes several.
  constexpr absl::Duration kLongestWait = absl::Hours(1);
  auto info = Structure<VkSemaphoreWaitInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO);
  info.semaphoreCount = 1;
  info.pSemaphores = &semaphore_;
  info.pValues = &value;
  while (true) {
    const absl::Duration left = deadline.left();
    const absl::Duration part = std::clamp(left, absl::ZeroDuration(), kLongestWait);
    const VkResult result = vkWaitSemaphores(
        device_->handle(), &info, static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(part)));
    if (result != VK_TIMEOUT) return ToStatus(result, "waiting for the device");
    if (left <= kLongestWait) {
      return absl::DeadlineExceededError("the device has not finished in time");
    }
  }
}

absl::Status Timeline::WaitLooking(std::uint64_t value, absl::Duration from, absl::Duration until,
                                   Deadline deadline) const {
  const auto uptime = [] { return Clock::Real().Uptime(); };
  if (from >= deadline.at()) return Wait(value, deadline);
  const absl::Status slept = Wait(value, Deadline::After(from - uptime()));
  if (!absl::IsDeadlineExceeded(slept)) return slept;
  const absl::Duration end = std::min(until, deadline.at());
  std::uint64_t reached = 0;
  while (reached < value && uptime() < end) {
    TANDEM_RETURN_IF_ERROR(
        ToStatus(vkGetSemaphoreCounterValue(device_->handle(), semaphore_, &reached),
                 "looking for the end of the device's work"));
  }
  // At once where it is reached; says whether the device is lost, too.
  return Wait(value, deadline);
}

}  // namespace tandem::vulkan
