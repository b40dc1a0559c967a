#include "lib/text/detokenizer.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/text/utf8.h"
#include "tests/unit/lib/text/random_text.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

std::shared_ptr<const Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *tokenizer;
}

std::vector<int32_t> ByteIds(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<int32_t> ids;
  for (char byte : bytes) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", static_cast<unsigned char>(byte));
    ids.push_back(tokenizer.IdOf(text));
  }
  return ids;
}

TEST(StreamingDetokenizerTest, HoldsAnIncompleteCharacter) {
  const auto tokenizer = Make(SmallVocabulary());
  StreamingDetokenizer stream(tokenizer);
  const auto ids = ByteIds(*tokenizer, "🦊");
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(*stream.Append({ids[i]}), "");
    EXPECT_EQ(stream.held_bytes(), i + 1);
  }
  EXPECT_EQ(*stream.Append({ids[3]}), "🦊");
  EXPECT_EQ(stream.held_bytes(), 0u);
  EXPECT_EQ(stream.Flush(), "");
}

TEST(StreamingDetokenizerTest, GivesUpOnACharacterThatCannotBecomeOne) {
  const auto tokenizer = Make(SmallVocabulary());
  StreamingDetokenizer stream(tokenizer);
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xE2\x96")), "");
  EXPECT_EQ(*stream.Append({tokenizer->IdOf("he")}), "\uFFFD\uFFFDhe");
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xF0\x9F")), "");
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "z")), "\uFFFD\uFFFDz");
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xED")), "");
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xA0")),
            "\uFFFD\uFFFD");  // a surrogate: known at once
}

TEST(StreamingDetokenizerTest, SkipsSpecialSymbolsWhereAsked) {
  const auto tokenizer = Make(SmallVocabulary());
  StreamingDetokenizer stream(tokenizer);
  const int32_t marker = tokenizer->IdOf("<end_of_turn>");
  const int32_t heading = tokenizer->IdOf("<h1>");
  EXPECT_EQ(*stream.Append({marker}), "<end_of_turn>");
  stream.SkipSpecial(true);
  EXPECT_EQ(*stream.Append({heading, marker, tokenizer->IdOf("he")}), "<h1>he");
  // A character that the marker interrupts is broken all the same.
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xC3")), "");
  EXPECT_EQ(*stream.Append({marker}), "\uFFFD");
  EXPECT_EQ(stream.Flush(), "");
  EXPECT_EQ(*stream.Append({marker}), "");
}

TEST(StreamingDetokenizerTest, FlushEndsTheText) {
  const auto tokenizer = Make(SmallVocabulary());
  StreamingDetokenizer stream(tokenizer);
  EXPECT_EQ(*stream.Append(ByteIds(*tokenizer, "\xF0\x9F\x99")), "");
  EXPECT_EQ(stream.Flush(), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(stream.Flush(), "");
}

TEST(StreamingDetokenizerTest, RefusesUnknownIdsAndTakesNothing) {
  const auto tokenizer = Make(SmallVocabulary());
  StreamingDetokenizer stream(tokenizer);
  const auto result = stream.Append({tokenizer->IdOf("he"), 1'000'000});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(*stream.Append({tokenizer->IdOf("lo")}), "lo");
}

// Whatever the ids and however they are cut: whole characters, and together what Decode gives.
TEST(StreamingDetokenizerTest, EqualsDecodeForAnyChunks) {
  for (int setting = 0; setting < 4; ++setting) {
    Vocabulary vocabulary = SmallVocabulary();
    vocabulary.add_dummy_prefix = (setting & 1) != 0;
    vocabulary.remove_extra_whitespaces = (setting & 2) != 0;
    const auto tokenizer = Make(vocabulary);
    RandomText random(vocabulary, "hello world", 5);
    std::mt19937 cuts(9);
    for (int i = 0; i < 5000; ++i) {
      const std::vector<int32_t> ids = random.NextIds();
      StreamingDetokenizer stream(tokenizer);
      std::string all;
      for (size_t at = 0; at < ids.size();) {
        const size_t size = std::min<size_t>(ids.size() - at, cuts() % 4);
        const auto text = stream.Append(absl::MakeConstSpan(ids).subspan(at, size));
        ASSERT_TRUE(text.ok());
        ASSERT_TRUE(IsValidUtf8(*text));
        ASSERT_LE(stream.held_bytes(), 3u);
        all += *text;
        at += size;
      }
      all += stream.Flush();
      ASSERT_EQ(all, *tokenizer->Decode(ids)) << testing::PrintToString(ids);
    }
  }
}

}  // namespace
}  // namespace tandem
