#include "gpu-worker/stage/recorder.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <span>

#include "gpu-worker/stage/dispatch_timer.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

bool HasBarrier(const ChainTuning& chain, ChainPlace place, std::uint32_t bucket) {
  const auto index = static_cast<std::size_t>(std::bit_width(bucket) - 1);
  return index < chain.barriers.size() &&
         (chain.barriers[index] & static_cast<std::uint32_t>(place)) != 0;
}

}  // namespace

absl::Status BucketCommands::MakeSets(const DeviceContext& context, const std::vector<Op>& ops,
                                      Buckets buckets) {
  std::uint32_t buffers = 0;
  for (const Op& op : ops) buffers += static_cast<std::uint32_t>(op.bindings.size());
  TANDEM_ASSIGN_OR_RETURN(descriptors_,
                          vulkan::DescriptorPool::Create(
                              context.device, static_cast<std::uint32_t>(ops.size()), buffers));
  for (const Op& op : ops) {
    // All kernels with as many bindings have the same layout, so one set serves every bucket.
    DispatchPlan plan;
    for (std::uint32_t rows = buckets.min_rows;
         plan.pipeline == nullptr && rows <= buckets.max_rows; rows *= 2) {
      TANDEM_ASSIGN_OR_RETURN(plan, op.plan(rows));
    }
    if (plan.pipeline == nullptr) {
      sets_.push_back(VK_NULL_HANDLE);
      continue;
    }
    absl::StatusOr<VkDescriptorSet> set =
        descriptors_.MakeSet(plan.pipeline->descriptor_layout(), op.bindings);
    if (!set.ok()) return Annotate(set.status(), op.name);
    sets_.push_back(*set);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Segment>> BucketCommands::RecordBucket(
    const DeviceContext& context, const std::vector<Op>& ops, std::uint32_t rows,
    const std::vector<VkBuffer>& external, const std::optional<vulkan::BufferSlice>& cleared) {
  std::vector<Segment> segments;
  std::optional<vulkan::CommandBuffer> commands;
  double seconds = 0;
  bool barrier = false;
  // The chained dispatch in front, as what comes next waits for it; without one it is all 0.
  kernels::ChainParams in_front{};
  const auto finish = [&] {
    segments.push_back({commands->handle(), seconds});
    seconds = 0;
    absl::Status status = commands->Finish();
    commands.reset();
    return status;
  };
  for (std::size_t i = 0; i < ops.size(); ++i) {
    absl::StatusOr<DispatchPlan> plan = ops[i].plan(rows);
    if (!plan.ok()) return Annotate(plan.status(), ops[i].name);
    barrier = barrier || ops[i].barrier;
    if (plan->pipeline == nullptr) continue;
    // Between the ends of a chain and other dispatches there are barriers.
    const bool chained = in_front.wait_for > 0;
    barrier = chained ? !ops[i].link.has_value() : barrier || ops[i].link.has_value();
    if (ops[i].link.has_value() && HasBarrier(context.tuning.chain, ops[i].link->place, rows)) {
      barrier = true;
      in_front = {};
    }
    if (ops[i].link.has_value()) {
      TANDEM_CHECK(plan->signals > 0);
      in_front.signal_at = ops[i].link->signal_at;
      in_front.polls = ops[i].link->polls;
      plan->AddLink(in_front);
      in_front = {ops[i].link->line_at, plan->signals, 0, 0};
    } else {
      in_front = {};
    }
    const double cost = std::max(plan->work.flops / context.tuning.flops_per_second,
                                 plan->work.bytes / context.tuning.bytes_per_second);
    if (commands.has_value() && seconds + cost > kMaxSegmentSeconds) {
      TANDEM_RETURN_IF_ERROR(finish());
    }
    if (!commands.has_value()) {
      TANDEM_ASSIGN_OR_RETURN(commands, commands_.Begin());  // with a barrier
      for (std::size_t b = 0; segments.empty() && b < external.size(); ++b) {
        commands->AcquireExternal(external[b]);
      }
      if (segments.empty() && cleared.has_value()) commands->Clear(*cleared);
      if (context.timer != nullptr) {
        TANDEM_RETURN_IF_ERROR(context.timer->Begin(context.device, *commands,
                                                    static_cast<std::uint32_t>(ops.size() - i)));
      }
    } else if (barrier) {
      commands->Barrier();
    }
    barrier = false;
    commands->Dispatch(*plan->pipeline, sets_[i], std::span(plan->push).first(plan->push_bytes),
                       plan->groups);
    if (context.timer != nullptr) context.timer->Mark(*commands, ops[i].name);
    seconds += cost;
  }
  if (!commands.has_value()) return segments;
  for (const VkBuffer buffer : external) commands->ReleaseExternal(buffer);
  TANDEM_RETURN_IF_ERROR(finish());
  return segments;
}

absl::StatusOr<BucketCommands> BucketCommands::Record(
    const DeviceContext& context, const std::vector<Op>& ops, Buckets buckets,
    const std::vector<VkBuffer>& external, const std::optional<vulkan::BufferSlice>& cleared) {
  BucketCommands commands_of_buckets;
  if (ops.empty()) {
    commands_of_buckets.buckets_.resize(static_cast<std::size_t>(std::bit_width(buckets.max_rows)));
    return commands_of_buckets;
  }
  TANDEM_RETURN_IF_ERROR(commands_of_buckets.MakeSets(context, ops, buckets));
  TANDEM_ASSIGN_OR_RETURN(commands_of_buckets.commands_,
                          vulkan::CommandPool::Create(context.device));
  commands_of_buckets.buckets_.resize(
      static_cast<std::size_t>(std::bit_width(buckets.min_rows) - 1));
  for (std::uint32_t rows = buckets.min_rows; rows <= buckets.max_rows; rows *= 2) {
    TANDEM_ASSIGN_OR_RETURN(
        auto segments, commands_of_buckets.RecordBucket(context, ops, rows, external, cleared));
    commands_of_buckets.buckets_.push_back(std::move(segments));
  }
  return commands_of_buckets;
}

const std::vector<Segment>& BucketCommands::For(std::uint32_t rows) const {
  const auto index = static_cast<std::size_t>(std::bit_width(std::bit_ceil(rows)) - 1);
  TANDEM_CHECK(index < buckets_.size());
  return buckets_[index];
}

}  // namespace tandem
