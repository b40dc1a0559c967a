#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"

namespace tandem {

// How long submissions took, so that the host knows when the next one like them should end. They
// run one after another. Times are Clock::Uptime's. One thread.
class RunTimes {
 public:
  struct Run {
    std::size_t kind = 0;
    absl::Duration sent;
  };

  explicit RunTimes(std::size_t stages);

  // Of submissions of so many tokens, rounded up to a power of two; `decodes`: every sequence has
  // one; `head`: some have logits.
  Run Sent(std::int32_t stage, bool decodes, bool head, std::int32_t tokens,
           absl::Duration now) const;
  // Nothing where none like it has ended.
  std::optional<absl::Duration> ExpectedEnd(const Run& run) const;
  // In the order in which they were sent.
  void Ended(const Run& run, absl::Duration now);

 private:
  // When it began: as it was sent, or as the one before it ended.
  absl::Duration Start(const Run& run) const;

  // Of each kind, the last one; zero where there was none.
  std::vector<absl::Duration> took_;
  absl::Duration last_end_ = -absl::InfiniteDuration();
};

}  // namespace tandem
