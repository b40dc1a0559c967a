#include "gpu-worker/stage/dispatch_timer.h"

#include <algorithm>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kTimestamps = 1 << 14;

}  // namespace

absl::Status DispatchTimer::Begin(const vulkan::LogicalDevice& device,
                                  vulkan::CommandBuffer& commands, std::uint32_t dispatches) {
  if (!std::exchange(made_, true)) {
    TANDEM_ASSIGN_OR_RETURN(timestamps_, vulkan::Timestamps::Create(device, kTimestamps));
  }
  open_ = used_ + dispatches + 1 <= kTimestamps;
  if (!open_) return absl::OkStatus();
  commands.ResetTimestamps(timestamps_, used_, dispatches + 1);
  recordings_.push_back({used_, {}});
  commands.Timestamp(timestamps_, used_);
  used_ += dispatches + 1;
  return absl::OkStatus();
}

void DispatchTimer::Mark(vulkan::CommandBuffer& commands, const std::string& name) {
  if (!open_ || !wants_(name)) return;
  Recording& recording = recordings_.back();
  recording.names.push_back(name);
  commands.Timestamp(timestamps_,
                     recording.first + static_cast<std::uint32_t>(recording.names.size()));
}

absl::StatusOr<std::vector<DispatchTimer::Run>> DispatchTimer::Latest(std::size_t count) const {
  std::vector<Run> runs;
  for (const Recording& recording : recordings_) {
    const auto marks = static_cast<std::uint32_t>(recording.names.size()) + 1;
    const absl::StatusOr<std::vector<double>> times = timestamps_.Read(recording.first, marks);
    // Never run.
    if (!times.ok() || times->back() <= 0) continue;
    Run run{times->front(), times->back(), {}};
    for (std::size_t i = 0; i < recording.names.size(); ++i)
      run.entries.push_back({recording.names[i], (*times)[i + 1] - (*times)[i]});
    runs.push_back(std::move(run));
  }
  if (runs.size() < count) {
    return absl::NotFoundError(
        Cat("expected ", count, " timed command buffers that have run, found ", runs.size()));
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.end < b.end; });
  runs.erase(runs.begin(), runs.end() - static_cast<std::ptrdiff_t>(count));
  return runs;
}

absl::StatusOr<std::vector<DispatchTimer::Entry>> DispatchTimer::Last() const {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Run> runs, Latest(1));
  return std::move(runs.front().entries);
}

}  // namespace tandem
