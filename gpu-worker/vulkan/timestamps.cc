#include "gpu-worker/vulkan/timestamps.h"

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"

namespace tandem::vulkan {

Timestamps::~Timestamps() {
  if (pool_ != VK_NULL_HANDLE) vkDestroyQueryPool(device_->handle(), pool_, nullptr);
}

absl::StatusOr<Timestamps> Timestamps::Create(const LogicalDevice& device, std::uint32_t count) {
  // True where all compute queues have one; that each bit of it counts is not asked for.
  if (!device.physical().limits.timestampComputeAndGraphics) {
    return absl::UnimplementedError("the device has no clock for its compute queue");
  }
  auto info = Structure<VkQueryPoolCreateInfo>(VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO);
  info.queryType = VK_QUERY_TYPE_TIMESTAMP;
  info.queryCount = count;
  Timestamps timestamps;
  timestamps.device_ = &device;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateQueryPool(device.handle(), &info, nullptr, &timestamps.pool_),
               "creating a pool of timestamps"));
  return timestamps;
}

absl::StatusOr<std::vector<double>> Timestamps::Read(std::uint32_t first,
                                                     std::uint32_t count) const {
  std::vector<std::uint64_t> ticks(count);
  TANDEM_RETURN_IF_ERROR(ToStatus(
      vkGetQueryPoolResults(device_->handle(), pool_, first, count, count * sizeof(std::uint64_t),
                            ticks.data(), sizeof(std::uint64_t), VK_QUERY_RESULT_64_BIT),
      "reading timestamps"));
  std::vector<double> seconds;
  for (const std::uint64_t tick : ticks) {
    seconds.push_back(static_cast<double>(tick) *
                      static_cast<double>(device_->physical().limits.timestampPeriod) * 1e-9);
  }
  return seconds;
}

}  // namespace tandem::vulkan
