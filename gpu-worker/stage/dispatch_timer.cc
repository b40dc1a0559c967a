#include "gpu-worker/stage/dispatch_timer.h"

#include <utility>

#include "lib/base/status_macros.h"

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
  if (!open_) return;
  Recording& recording = recordings_.back();
  recording.names.push_back(name);
  commands.Timestamp(timestamps_,
                     recording.first + static_cast<std::uint32_t>(recording.names.size()));
}

absl::StatusOr<std::vector<DispatchTimer::Entry>> DispatchTimer::Last() const {
  std::vector<Entry> entries;
  double last = 0;
  for (const Recording& recording : recordings_) {
    const auto count = static_cast<std::uint32_t>(recording.names.size()) + 1;
    const absl::StatusOr<std::vector<double>> times = timestamps_.Read(recording.first, count);
    // Never run.
    if (!times.ok() || times->back() <= last) continue;
    last = times->back();
    entries.clear();
    for (std::size_t i = 0; i < recording.names.size(); ++i) {
      entries.push_back({recording.names[i], (*times)[i + 1] - (*times)[i]});
    }
  }
  if (entries.empty()) return absl::NotFoundError("no timed dispatch has run");
  return entries;
}

}  // namespace tandem
