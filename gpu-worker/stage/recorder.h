#pragma once

#include <vulkan/vulkan.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/common/chain_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/pipeline.h"

namespace tandem {

// What a dispatch costs, roughly: bounds the length of a submission.
struct WorkEstimate {
  double flops = 0;
  double bytes = 0;
};

// One dispatch, ready to be recorded. Without a pipeline: nothing to do for this bucket.
struct DispatchPlan {
  const vulkan::Pipeline* pipeline = nullptr;
  vulkan::Groups groups;
  std::array<std::byte, 80> push{};
  std::uint32_t push_bytes = 0;
  WorkEstimate work;
  // Of kernels with CHAINED (chain.h): so many of its workgroups count themselves.
  std::uint32_t signals = 0;

  template <typename Params>
  void SetPush(const Params& params) {
    static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 64);
    std::memcpy(push.data(), &params, sizeof(params));
    push_bytes = sizeof(params);
  }
  // Behind what SetPush has set.
  void AddLink(const kernels::ChainParams& link) {
    static_assert(sizeof(link) <= 16);
    std::memcpy(push.data() + push_bytes, &link, sizeof(link));
    push_bytes += static_cast<std::uint32_t>(sizeof(link));
  }
};

// Where the next dispatch of a chain (chain.h) looks for this one's workgroups, where they count
// themselves, which is the same but in tests, and how often this one looks for those in front.
struct ChainLink {
  std::uint32_t line_at = 0;
  std::uint32_t signal_at = 0;
  std::uint32_t polls = 0;
  ChainPlace place = ChainPlace::kOther;
};

// One kernel of a stage with the buffers it works on. The buffers are the same for every bucket;
// what is dispatched depends on it.
struct Op {
  // For errors.
  std::string name;
  std::vector<vulkan::BufferSlice> bindings;
  // Whether it reads or overwrites what the ops since the last barrier wrote or read.
  bool barrier = true;
  // Of an op whose kernels are all with CHAINED: instead of a barrier its dispatch waits for the
  // one in front, where that is of the chain, too.
  std::optional<ChainLink> link;
  // `rows`: the bucket, tokens or logit rows.
  std::function<absl::StatusOr<DispatchPlan>(std::uint32_t rows)> plan;
};

// A recorded piece of a stage that runs for a bounded time.
struct Segment {
  VkCommandBuffer commands = VK_NULL_HANDLE;
  // A careful guess.
  double seconds = 0;
};

// Longest submission that is aimed at; a single dispatch is never cut. Kernels reset devices whose
// jobs run for about 2 s, and a cancelled step ends with the submissions in flight.
inline constexpr double kMaxSegmentSeconds = 0.4;

// The commands of a list of ops, one list of segments for every bucket 1, 2, 4, ...
class BucketCommands {
 public:
  // Makes the descriptor sets, then records every bucket of `rows` (powers of two). Buffers in
  // `external` are acquired in front of the first segment and released behind the last. What is in
  // `cleared` is all 0 in front of the first op.
  struct Buckets {
    std::uint32_t min_rows = 1;
    std::uint32_t max_rows = 1;
  };
  static absl::StatusOr<BucketCommands> Record(
      const DeviceContext& context, const std::vector<Op>& ops, Buckets buckets,
      const std::vector<VkBuffer>& external,
      const std::optional<vulkan::BufferSlice>& cleared = std::nullopt);

  // Of the smallest bucket that holds `rows`. Empty where there are no ops.
  const std::vector<Segment>& For(std::uint32_t rows) const;

 private:
  absl::Status MakeSets(const DeviceContext& context, const std::vector<Op>& ops, Buckets buckets);
  absl::StatusOr<std::vector<Segment>> RecordBucket(
      const DeviceContext& context, const std::vector<Op>& ops, std::uint32_t rows,
      const std::vector<VkBuffer>& external, const std::optional<vulkan::BufferSlice>& cleared);

  vulkan::DescriptorPool descriptors_;
  vulkan::CommandPool commands_;
  // Of each op.
  std::vector<VkDescriptorSet> sets_;
  // Of 1, 2, 4, ... rows; empty under the least bucket.
  std::vector<std::vector<Segment>> buckets_;
};

}  // namespace tandem
