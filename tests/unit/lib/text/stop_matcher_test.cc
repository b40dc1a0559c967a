#include "lib/text/stop_matcher.h"

#include <optional>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using testing::HasSubstr;

StopMatcher Make(std::vector<std::string> stops) {
  auto matcher = StopMatcher::Create(std::move(stops));
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  return *std::move(matcher);
}

TEST(StopMatcherTest, HoldsWhatMayBeginAStop) {
  StopMatcher matcher = Make({"STOP"});
  EXPECT_EQ(matcher.Append("abcS"), "abc");
  EXPECT_EQ(matcher.held_bytes(), 1u);
  EXPECT_EQ(matcher.Append("TO"), "");
  EXPECT_EQ(matcher.Append("x"), "STOx");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.Append("ST"), "");
  EXPECT_EQ(matcher.Append("OP and more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.matched_stop(), 0);
  EXPECT_EQ(matcher.match_position(), 7u);
  EXPECT_EQ(matcher.Append("ignored"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, FlushGivesWhatWasHeld) {
  StopMatcher matcher = Make({"\n\nUser:"});
  EXPECT_EQ(matcher.Append("text\n\nUs"), "text");
  EXPECT_EQ(matcher.Flush(), "\n\nUs");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcherTest, FirstEndWinsThenTheLongest) {
  StopMatcher first = Make({"bcdef", "cd"});
  EXPECT_EQ(first.Append("abcdef"), "ab");
  EXPECT_EQ(first.matched_stop(), 1);
  StopMatcher longest = Make({"c", "bc", "abc"});
  EXPECT_EQ(longest.Append("xabc"), "x");
  EXPECT_EQ(longest.matched_stop(), 2);
  EXPECT_EQ(longest.match_position(), 1u);
}

TEST(StopMatcherTest, OverlappingBeginnings) {
  StopMatcher matcher = Make({"aab"});
  EXPECT_EQ(matcher.Append("aaaa"), "aa");
  EXPECT_EQ(matcher.Append("b"), "");
  EXPECT_EQ(matcher.match_position(), 2u);
}

TEST(StopMatcherTest, NoStopsPassTextThrough) {
  StopMatcher matcher = Make({});
  EXPECT_EQ(matcher.Append("anything"), "anything");
  EXPECT_EQ(matcher.held_bytes(), 0u);
}

TEST(StopMatcherTest, RefusesBadStops) {
  EXPECT_TRUE(StopMatcher::Create(std::vector<std::string>(64, "a")).ok());
  const auto many = StopMatcher::Create(std::vector<std::string>(65, "a"));
  EXPECT_THAT(std::string(many.status().message()), HasSubstr("at most 64 strings, found 65"));
  const auto empty = StopMatcher::Create({"a", ""});
  EXPECT_THAT(std::string(empty.status().message()),
              HasSubstr("stop[1]: expected 1 to 4096 bytes, found 0"));
  EXPECT_EQ(StopMatcher::Create({std::string(5000, 'x')}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(StopMatcherTest, NeverSplitsACharacter) {
  StopMatcher matcher = Make({"é!", "🙂🙂"});
  for (const char* chunk : {"è", "é", "?", "🙂", "🙃", "é", "è", "🙂"}) {
    EXPECT_TRUE(IsValidUtf8(matcher.Append(chunk)));
  }
  EXPECT_EQ(matcher.Flush(), "🙂");
}

// The slow, obvious way: try every end of the text.
struct Expected {
  size_t position;
  int stop;
};
std::optional<Expected> FirstMatch(std::string_view text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<Expected> best;
    for (size_t s = 0; s < stops.size(); ++s) {
      if (!text.substr(0, end).ends_with(stops[s])) continue;
      const size_t position = end - stops[s].size();
      if (!best || position < best->position) best = Expected{position, static_cast<int>(s)};
    }
    if (best) return best;
  }
  return std::nullopt;
}

TEST(StopMatcherTest, EqualsTheObviousSearchForAnyChunks) {
  std::mt19937 random(1);
  const auto word = [&](size_t size) {
    std::string text;
    while (text.size() < size) text.push_back(static_cast<char>('a' + random() % 2));
    return text;
  };
  int matches = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 4; n > 0; --n) stops.push_back(word(1 + random() % 8));
    const std::string text = word(random() % 30);
    StopMatcher matcher = Make(stops);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 5;
      out += matcher.Append(std::string_view(text).substr(at, size));
      at += size;
      // Never held longer than needed: what is held begins some stop string.
      if (!matcher.matched() && matcher.held_bytes() > 0) {
        const std::string_view seen = std::string_view(text).substr(0, at);
        const std::string_view held = seen.substr(seen.size() - matcher.held_bytes());
        const auto begins = [&](const std::string& stop) { return stop.starts_with(held); };
        ASSERT_TRUE(std::any_of(stops.begin(), stops.end(), begins)) << held;
      }
    }
    const auto expected = FirstMatch(text, stops);
    ASSERT_EQ(matcher.matched(), expected.has_value())
        << text << " " << testing::PrintToString(stops);
    if (!expected) {
      EXPECT_EQ(out + matcher.Flush(), text);
      continue;
    }
    ++matches;
    EXPECT_EQ(matcher.match_position(), expected->position);
    EXPECT_EQ(stops[matcher.matched_stop()], stops[expected->stop]);
    EXPECT_EQ(out, text.substr(0, expected->position));
  }
  EXPECT_GT(matches, 5000);
}

}  // namespace
}  // namespace tandem
