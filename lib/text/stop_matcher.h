#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// Finds the first of some stop strings in a text that arrives in chunks, and hands on the
// text before it. The end of the text that could be the beginning of a stop string is held back
// until it is decided. The match that ends first wins; of several that end at one byte, the
// longest. The result does not depend on how the text is cut into chunks. Where chunks are whole
// UTF-8 characters, so is what comes out. O(1) per byte, amortised. One thread at a time.
class StopMatcher {
 public:
  static constexpr size_t kMaxStops = 64;
  static constexpr size_t kMaxStopBytes = 4096;

  // `stops`: up to kMaxStops strings of 1 to kMaxStopBytes bytes (with none, text passes straight
  // through); else InvalidArgument.
  static absl::StatusOr<StopMatcher> Create(std::vector<std::string> stops);

  // The text that is now known to stand before any stop string. After a match: nothing, ever.
  std::string Append(std::string_view chunk);

  // The end of the text: what was held back. Afterwards Append must not be called.
  std::string Flush();

  bool matched() const { return matched_stop_ >= 0; }
  // Index of the stop string that matched, or -1.
  int matched_stop() const { return matched_stop_; }
  // Bytes of the whole text before the stop string (= bytes handed on). Meaningful once matched().
  uint64_t match_position() const { return match_position_; }
  // Bytes held back now, less than the longest stop string.
  size_t held_bytes() const { return held_.size(); }

 private:
  struct Stop {
    std::string text;
    std::vector<uint32_t> border;  // border[i]: longest proper border of the first i bytes
    uint32_t matched = 0;          // bytes of `text` that end the stream now
  };

  explicit StopMatcher(std::vector<Stop> stops);

  // Takes one byte; whether the stop string is complete.
  static bool Advance(Stop& stop, char byte);
  std::string FinishMatch(std::string_view taken);

  std::vector<Stop> stops_;
  std::string held_;
  uint64_t position_ = 0;  // bytes seen
  uint64_t match_position_ = 0;
  int matched_stop_ = -1;
};

}  // namespace tandem
