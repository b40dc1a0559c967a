#include "lib/text/stop_matcher.h"
#include "lib/base/strings.h"

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

// Knuth, Morris and Pratt's failure function: border[i] for the first i bytes of `text`.
std::vector<uint32_t> Borders(std::string_view text) {
  std::vector<uint32_t> border(text.size() + 1, 0);
  uint32_t length = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = border[length];
    if (text[i] == text[length]) ++length;
    border[i + 1] = length;
  }
  return border;
}

}  // namespace

absl::StatusOr<StopMatcher> StopMatcher::Create(std::vector<std::string> stops) {
  if (stops.size() > kMaxStops) {
    return absl::InvalidArgumentError(
        Cat("stop: expected at most ", kMaxStops, " strings, found ", stops.size()));
  }
  std::vector<Stop> built;
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty() || stops[i].size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          Cat("stop[", i, "]: expected 1 to ", kMaxStopBytes, " bytes, found ", stops[i].size()));
    }
    std::vector<uint32_t> border = Borders(stops[i]);
    built.push_back({std::move(stops[i]), std::move(border)});
  }
  return StopMatcher(std::move(built));
}

StopMatcher::StopMatcher(std::vector<Stop> stops) : stops_(std::move(stops)) {}

bool StopMatcher::Advance(Stop& stop, char byte) {
  while (stop.matched > 0 && stop.text[stop.matched] != byte)
    stop.matched = stop.border[stop.matched];
  if (stop.text[stop.matched] == byte) ++stop.matched;
  return stop.matched == stop.text.size();
}

std::string StopMatcher::Append(std::string_view chunk) {
  if (matched() || chunk.empty()) return {};
  size_t longest = 0;  // bytes at the end of what was seen that may begin a stop string
  for (size_t i = 0; i < chunk.size(); ++i) {
    longest = 0;
    for (size_t s = 0; s < stops_.size(); ++s) {
      Stop& stop = stops_[s];
      const bool complete = Advance(stop, chunk[i]);
      if (complete && (!matched() || stop.text.size() > stops_[matched_stop_].text.size())) {
        matched_stop_ = static_cast<int>(s);
      }
      longest = std::max<size_t>(longest, stop.matched);
    }
    if (matched()) return FinishMatch(chunk.substr(0, i + 1));
  }
  position_ += chunk.size();
  held_.append(chunk);
  std::string safe = held_.substr(0, held_.size() - longest);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopMatcher::FinishMatch(std::string_view taken) {
  const size_t stop_size = stops_[matched_stop_].text.size();
  match_position_ = position_ + taken.size() - stop_size;
  position_ += taken.size();
  held_.append(taken);
  held_.resize(held_.size() - stop_size);
  return std::exchange(held_, {});
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace tandem
