#include "gateway/ingress/answer/token_text.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/gateway/ingress/fake_engine.h"

namespace tandem {
namespace {

TokenText Make(std::vector<std::string> stops = {}) {
  auto matcher = StopMatcher::Create(std::move(stops));
  EXPECT_TRUE(matcher.ok());
  return TokenText(TestTokenizer(), *std::move(matcher));
}

SampledToken Sampled(std::string_view piece) {
  return {.token = Id(piece), .logprob = -1.0f, .top = {}};
}

std::vector<std::int32_t> IdsOf(const TokenText::Output& out) {
  std::vector<std::int32_t> ids;
  for (const ScoredToken& token : out.tokens) ids.push_back(token.token);
  return ids;
}

std::vector<std::uint64_t> OffsetsOf(const TokenText::Output& out) {
  std::vector<std::uint64_t> offsets;
  for (const ScoredToken& token : out.tokens) offsets.push_back(token.text_offset);
  return offsets;
}

TEST(TokenText, HandsTextAndTokensOnTogether) {
  TokenText text = Make();
  TokenText::Output out;
  text.Append(Sampled("Hello"), out);
  EXPECT_EQ(out.text, "Hello");
  EXPECT_EQ(out.tokens.size(), 1u);
  text.Append(Sampled("\u2581world"), out);
  EXPECT_EQ(out.text, "Hello world");
  EXPECT_EQ(OffsetsOf(out), (std::vector<std::uint64_t>{0, 5}));
}

TEST(TokenText, HoldsTheTokensOfAnIncompleteCharacter) {
  TokenText text = Make();
  TokenText::Output out;
  text.Append(Sampled("<0xC3>"), out);
  EXPECT_EQ(out.text, "");
  EXPECT_TRUE(out.tokens.empty());
  text.Append(Sampled("<0xA4>"), out);
  EXPECT_EQ(out.text, "\u00e4");
  text.Append(Sampled("!"), out);
  EXPECT_EQ(IdsOf(out), (std::vector<std::int32_t>{Id("<0xC3>"), Id("<0xA4>"), Id("!")}));
  EXPECT_EQ(OffsetsOf(out), (std::vector<std::uint64_t>{0, 0, 1}));  // characters, not bytes
}

TEST(TokenText, FlushesABrokenCharacterAtTheEnd) {
  TokenText text = Make();
  TokenText::Output out;
  text.Append(Sampled("<0xC3>"), out);
  text.Finish(out);
  EXPECT_EQ(out.text, "\uFFFD");
  EXPECT_EQ(out.tokens.size(), 1u);
}

TEST(TokenText, StopStringAcrossTokensCutsTextAndTokens) {
  TokenText text = Make({"lo wor"});
  TokenText::Output out;
  text.Append(Sampled("Hello"), out);
  EXPECT_EQ(out.text, "Hel");  // "lo" may begin the stop string
  EXPECT_TRUE(out.tokens.empty());
  text.Append(Sampled("\u2581world"), out);
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(out.text, "Hel");
  EXPECT_EQ(IdsOf(out), std::vector<std::int32_t>{Id("Hello")});  // it made text that stands
  text.Append(Sampled("!"), out);
  text.Finish(out);
  EXPECT_EQ(out.text, "Hel");
}

TEST(TokenText, HeldTextComesAtTheEndWhenNothingMatches) {
  TokenText text = Make({"lo wor"});
  TokenText::Output out;
  text.Append(Sampled("Hello"), out);
  text.Finish(out);
  EXPECT_FALSE(text.stopped());
  EXPECT_EQ(out.text, "Hello");
  EXPECT_EQ(out.tokens.size(), 1u);
}

TEST(TokenText, EchoIsNotSearchedForStopStrings) {
  TokenText text = Make({"Hello"});
  TokenText::Output out;
  SampledToken score = Sampled("Hello");
  score.top = {{.token = 7, .logprob = -0.1f}};
  text.Echo({2, Id("Hello")}, {score}, out);
  EXPECT_FALSE(text.stopped());
  EXPECT_EQ(out.text, "Hello");
  ASSERT_EQ(out.tokens.size(), 2u);
  EXPECT_FALSE(out.tokens[0].logprob.has_value());
  EXPECT_EQ(out.tokens[1].logprob, -1.0f);
  EXPECT_EQ(out.tokens[1].top.size(), 1u);
  text.Append(Sampled("!"), out);
  text.Append(Sampled("Hello"), out);
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(out.text, "Hello!");
  EXPECT_EQ(IdsOf(out), (std::vector<std::int32_t>{2, Id("Hello"), Id("!")}));
  EXPECT_EQ(OffsetsOf(out), (std::vector<std::uint64_t>{0, 0, 5}));
}

TEST(TokenText, IdsBeyondTheTokenizerHaveNoText) {
  TokenText text = Make();
  TokenText::Output out;
  text.Append({.token = 1 << 20, .logprob = 0, .top = {}}, out);
  EXPECT_EQ(out.text, "");
  EXPECT_EQ(out.tokens.size(), 1u);
}

// However the stop strings hold text back, tokens and text add up to the same.
TEST(TokenText, AllOutputsTogetherDoNotDependOnStops) {
  const std::vector<std::string_view> pieces = {"He",     "ll",        "<0xF0>", "<0x9F>", "<0x98>",
                                                "<0x80>", "\u2581wor", "ld",     "\n",     "!"};
  for (const std::vector<std::string>& stops :
       {std::vector<std::string>{}, {"zzz"}, {"ll\xF0\x9F\x98\x81"}, {"ld\n!?"}}) {
    TokenText text = Make(stops);
    TokenText::Output out;
    for (const std::string_view piece : pieces) text.Append(Sampled(piece), out);
    text.Finish(out);
    EXPECT_EQ(out.text, "Hell\xF0\x9F\x98\x80 world\n!");
    EXPECT_EQ(OffsetsOf(out), (std::vector<std::uint64_t>{0, 2, 4, 4, 4, 4, 5, 9, 11, 12}));
  }
}

}  // namespace
}  // namespace tandem
