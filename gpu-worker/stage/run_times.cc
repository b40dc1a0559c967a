#include "gpu-worker/stage/run_times.h"

#include <algorithm>
#include <bit>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::size_t kBuckets = 32;
constexpr std::size_t kKindsOfStage = 4 * kBuckets;

}  // namespace

RunTimes::RunTimes(std::size_t stages) : took_(stages * kKindsOfStage) {}

RunTimes::Run RunTimes::Sent(std::int32_t stage, bool decodes, bool head, std::int32_t tokens,
                             absl::Duration now) const {
  const auto bucket = static_cast<std::size_t>(
      std::bit_width(std::bit_ceil(static_cast<std::uint32_t>(tokens))) - 1);
  const std::size_t list = (decodes ? 2u : 0u) + (head ? 1u : 0u);
  const Run run{static_cast<std::size_t>(stage) * kKindsOfStage + list * kBuckets + bucket, now};
  TANDEM_CHECK(tokens > 0 && run.kind < took_.size());
  return run;
}

absl::Duration RunTimes::Start(const Run& run) const { return std::max(run.sent, last_end_); }

std::optional<absl::Duration> RunTimes::ExpectedEnd(const Run& run) const {
  const absl::Duration took = took_[run.kind];
  if (took == absl::ZeroDuration()) return std::nullopt;
  return Start(run) + took;
}

void RunTimes::Ended(const Run& run, absl::Duration now) {
  took_[run.kind] = now - Start(run);
  last_end_ = now;
}

}  // namespace tandem
