#include "lib/constrain/token_masks.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/constrain/json_schema.h"

namespace tandem {
namespace {

constexpr std::int32_t kStop = 0;

// 0 ends, 1 to 256 are bytes, the rest words.
std::vector<std::string> Tokens(const std::vector<std::string>& words) {
  std::vector<std::string> tokens = {""};
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), words.begin(), words.end());
  return tokens;
}

std::shared_ptr<const TokenTrie> TrieOf(const std::vector<std::string>& words) {
  return std::make_shared<TokenTrie>(Tokens(words));
}

std::shared_ptr<TokenMasks> Make(const std::string& grammar,
                                 std::shared_ptr<const TokenTrie> trie) {
  auto masks = TokenMasks::Create(grammar, std::move(trie), {kStop});
  EXPECT_TRUE(masks.ok()) << masks.status();
  return masks.ok() ? *masks : nullptr;
}

std::int32_t TokenOf(const TokenTrie& trie, const std::string& text) {
  for (std::int32_t token = 0; token < trie.vocab_size(); ++token) {
    if (trie.BytesOf(token) == text) return token;
  }
  return -1;
}

// The slow twin: a token is allowed where the automaton takes all of its bytes.
TokenMask SlowMask(const std::string& grammar, const TokenTrie& trie, const std::string& before) {
  Automaton automaton(*CompileGrammar(grammar));
  const auto after = [&](Automaton::State state, const std::string& text) {
    for (const char c : text) state = automaton.Next(state, static_cast<std::uint8_t>(c));
    return state;
  };
  TokenMask mask((static_cast<std::size_t>(trie.vocab_size()) + 63) / 64);
  for (std::int32_t token = 0; token < trie.vocab_size(); ++token) {
    automaton.Refresh();
    const Automaton::State state = after(automaton.start(), before);
    const bool allowed =
        token == kStop ? automaton.IsWhole(state) : after(state, trie.BytesOf(token)) >= 0;
    if (allowed) mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (token % 64);
  }
  return mask;
}

TEST(TokenMasks, EqualsTheSlowTwinAlongRandomTexts) {
  const auto trie = TrieOf({"{\"", "\"", "\": ", "\": \"", "name", "na", ", \"", "}", "12", "true",
                            "\xE4\xBD\xA0", "\xE4\xBD", "a b", "\"}", "]}", "[", "[1, ", "e1"});
  const std::string schema =
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":6},
          "list":{"type":"array","items":{"type":"integer","minimum":3,"maximum":120}},
          "more":{}},"required":["name"]})";
  const std::string grammar = *GrammarOfSchema(schema);
  std::mt19937 random(7);
  for (int text = 0; text < 12; ++text) {
    const auto masks = Make(grammar, trie);
    auto state = masks->Start();
    std::string before;
    for (int step = 0; step < 25; ++step) {
      ASSERT_TRUE(state.ok()) << state.status();
      const auto mask = masks->MaskOf(*state);
      ASSERT_TRUE(mask.ok()) << mask.status();
      ASSERT_EQ(**mask, SlowMask(grammar, *trie, before)) << before;
      std::vector<std::int32_t> allowed;
      for (std::int32_t token = 1; token < trie->vocab_size(); ++token) {
        if (Allows(**mask, token)) allowed.push_back(token);
      }
      if (allowed.empty()) break;
      const std::int32_t token = allowed[random() % allowed.size()];
      before += trie->BytesOf(token);
      state = masks->Accept(*state, token);
    }
  }
}

TEST(TokenMasks, StopsWhereTheTextIsWholeAndOnlyThere) {
  const auto trie = TrieOf({"ab", "abc"});
  const auto masks = Make("root ::= \"ab\" \"c\"?", trie);
  auto state = masks->Start();
  EXPECT_FALSE(Allows(**masks->MaskOf(*state), kStop));
  EXPECT_FALSE(masks->Accept(*state, kStop).ok());
  state = masks->Accept(*state, TokenOf(*trie, "ab"));
  EXPECT_TRUE(Allows(**masks->MaskOf(*state), kStop));
  EXPECT_EQ(*masks->Accept(*state, kStop), *state);
  state = masks->Accept(*state, TokenOf(*trie, "c"));
  const TokenMask last = **masks->MaskOf(*state);
  for (std::int32_t token = 1; token < trie->vocab_size(); ++token)
    EXPECT_FALSE(Allows(last, token));
}

TEST(TokenMasks, ForcedTokensAreTheOnlyWay) {
  const auto trie = TrieOf({"{\"", "name", "\": ", "\": \"", "na"});
  const auto masks = Make("root ::= \"{\\\"name\\\": \\\"\" [a-z]* \"\\\"}\"", trie);
  const auto forced = masks->Forced(*masks->Start());
  ASSERT_TRUE(forced.ok());
  // The last one, which could be part of a longer token, is left to choose.
  EXPECT_EQ(*forced, (std::vector<std::int32_t>{TokenOf(*trie, "{\""), TokenOf(*trie, "name")}));
  const auto whole = Make("root ::= \"{\\\"name\\\": \"", trie);
  EXPECT_EQ(whole->Forced(*whole->Start())->size(), 3U);
  const auto choice = Make("root ::= \"a\" | \"b\"", trie);
  EXPECT_TRUE(choice->Forced(*choice->Start())->empty());
}

TEST(TokenMasks, RefusesWhatTheGrammarDoesNot) {
  const auto trie = TrieOf({});
  const auto masks = Make("root ::= \"yes\"", trie);
  EXPECT_EQ(masks->Accept(*masks->Start(), TokenOf(*trie, "n")).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(masks->Accept(*masks->Start(), -1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(TokenMasks::Create("root ::= root \"a\"", trie, {kStop}).ok());
  EXPECT_FALSE(TokenMasks::Create("root ::= \"a\"", trie, {}).ok());
  EXPECT_FALSE(TokenMasks::Create("root ::= \"a\"", trie, {257}).ok());
}

TEST(TokenMasks, SaysWhenTheVocabularyLacksAToken) {
  const auto trie = std::make_shared<TokenTrie>(std::vector<std::string>{"", "a"});
  const auto masks = Make("root ::= \"ab\"", trie);
  const auto state = masks->Accept(*masks->Start(), 1);
  EXPECT_EQ(masks->MaskOf(*state).status().code(), absl::StatusCode::kFailedPrecondition);
}

// Each of these would take for ever, or all memory, if nothing were bounded.
TEST(TokenMasks, HostileGrammarsEndInWords) {
  std::vector<std::string> words;
  for (int i = 0; i < 3000; ++i) words.push_back(absl::StrCat("a", i, "aaaaaaaa"));
  const auto trie = TrieOf(words);
  const std::string hostile[] = {
      "root ::= ((((\"a\"*)*)*)*)* (a | b){0,100000}\na ::= [a-c]{0,1000} [a-z]{0,1000}\nb ::= a a "
      "a",
      "root ::= x{1000}\nx ::= y{1000}\ny ::= [a-z]{0,1000} [a-z0-9]{0,1000}",
      "root ::= (\"a\"? x){0,9999}\nx ::= (\"a\" root | \"a\" x | \"a\"){0,999}",
  };
  for (const std::string& grammar : hostile) {
    const auto masks = TokenMasks::Create(grammar, trie, {kStop});
    if (!masks.ok()) continue;
    absl::StatusOr<TokenMasks::State> state = (*masks)->Start();
    for (int i = 0; i < 200 && state.ok(); ++i) {
      const auto mask = (*masks)->MaskOf(*state);
      if (!mask.ok()) break;
      state = (*masks)->Accept(*state, TokenOf(*trie, "a"));
    }
    EXPECT_LT((*masks)->memory(), std::size_t{160} << 20) << grammar;
  }
}

TEST(MaskCache, GivesTheSameMasksForTheSameGrammar) {
  MaskCache cache(TrieOf({}));
  const auto a = cache.Get("root ::= \"a\"", {kStop});
  const auto b = cache.Get("root ::= \"b\"", {kStop});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(*cache.Get("root ::= \"a\"", {kStop}), *a);
  EXPECT_NE(*a, *b);
  EXPECT_FALSE(cache.Get("root ::= ", {}).ok());
  // Nobody uses these: the oldest go.
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(cache.Get(absl::StrCat("root ::= \"", i, "\""), {kStop}).ok());
  EXPECT_EQ(*cache.Get("root ::= \"a\"", {kStop}), *a);
}

}  // namespace
}  // namespace tandem
