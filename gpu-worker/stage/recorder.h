#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/op.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"

namespace tandem {

// A recorded piece of a stage that runs for a bounded time.
struct Segment {
  VkCommandBuffer commands = VK_NULL_HANDLE;
  double seconds = 0;  // a careful guess
};

// Longest submission that is aimed at; a single dispatch is never cut. Kernels reset devices whose
// jobs run for about 2 s, and a cancelled step ends with the submissions in flight.
inline constexpr double kMaxSegmentSeconds = 0.4;

// The commands of a list of ops, one list of segments for every bucket 1, 2, 4, ...
class BucketCommands {
 public:
  // Makes the descriptor sets, then records every bucket up to `max_rows` (a power of two). Buffers
  // in `external` are acquired in front of the first segment and released behind the last.
  static absl::StatusOr<BucketCommands> Record(const DeviceContext& context,
                                               const std::vector<Op>& ops, std::uint32_t max_rows,
                                               const std::vector<VkBuffer>& external);

  // Of the smallest bucket that holds `rows` (1 to max_rows). Empty where there are no ops.
  const std::vector<Segment>& For(std::uint32_t rows) const;

 private:
  absl::Status MakeSets(const DeviceContext& context, const std::vector<Op>& ops);
  absl::StatusOr<std::vector<Segment>> RecordBucket(const DeviceContext& context,
                                                    const std::vector<Op>& ops, std::uint32_t rows,
                                                    const std::vector<VkBuffer>& external);

  vulkan::DescriptorPool descriptors_;
  vulkan::CommandPool commands_;
  std::vector<VkDescriptorSet> sets_;          // of each op
  std::vector<std::vector<Segment>> buckets_;  // of 1, 2, 4, ... rows
};

}  // namespace tandem
