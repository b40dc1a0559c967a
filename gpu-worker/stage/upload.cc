#include "gpu-worker/stage/upload.h"

#include <algorithm>
#include <cstring>

#include "absl/time/time.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint64_t kHalfBytes = 32 << 20;
// Of where the second half begins.
constexpr std::uint64_t kAlignment = 64;

}  // namespace

absl::Status Upload(vulkan::LogicalDevice& device, std::span<const std::byte> bytes,
                    const vulkan::Buffer& to) {
  TANDEM_CHECK(bytes.size() <= to.bytes());
  const std::uint64_t most = device.physical().max_allocation_bytes / 2 / kAlignment * kAlignment;
  const std::uint64_t half = std::min<std::uint64_t>({kHalfBytes, bytes.size(), most});
  TANDEM_ASSIGN_OR_RETURN(
      const vulkan::Buffer staging,
      vulkan::Buffer::Create(device, 2 * half, vulkan::Placement::kUpload, "staging buffer"));
  TANDEM_ASSIGN_OR_RETURN(vulkan::CommandPool pool, vulkan::CommandPool::Create(device));
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Timeline timeline, vulkan::Timeline::Create(device));
  std::uint64_t value = 0;
  absl::Status status;
  for (std::uint64_t at = 0; at < bytes.size() && status.ok(); at += half) {
    // The half was last read by the submission before the last one.
    if (value >= 2) status = timeline.Wait(value - 1, Deadline::Never());
    if (!status.ok()) break;
    const std::uint64_t count = std::min<std::uint64_t>(half, bytes.size() - at);
    const std::uint64_t from = value % 2 * half;
    std::memcpy(staging.data() + from, bytes.data() + at, count);
    absl::StatusOr<vulkan::CommandBuffer> begun = pool.Begin();
    status = begun.status();
    if (!status.ok()) break;
    vulkan::CommandBuffer& commands = *begun;
    commands.Copy({staging.handle(), from, count}, {to.handle(), at, count});
    status = commands.Finish();
    if (!status.ok()) break;
    const VkCommandBuffer handle = commands.handle();
    status = device.Submit({&handle, 1}, timeline.handle(), value + 1);
    if (status.ok()) ++value;
  }
  // Whatever runs still reads the staging buffer.
  const absl::Status drained = timeline.Wait(value, Deadline::Never());
  return status.ok() ? drained : status;
}

}  // namespace tandem
