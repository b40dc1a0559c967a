#include "lib/text/tokenizer.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/lib/text/random_text.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class TokenizerTest : public testing::Test {
 protected:
  static std::shared_ptr<const Tokenizer> Make(Vocabulary vocabulary) {
    auto tokenizer = Tokenizer::Create(std::move(vocabulary));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *tokenizer;
  }

  std::vector<std::string> Pieces(std::string_view text, EncodeOptions options = {}) const {
    std::vector<std::string> pieces;
    for (int32_t id : tokenizer_->Encode(text, options)) {
      pieces.emplace_back(tokenizer_->PieceOf(id));
    }
    return pieces;
  }

  const std::shared_ptr<const Tokenizer> tokenizer_ = Make(SmallVocabulary());
};

TEST_F(TokenizerTest, MergesByRank) {
  EXPECT_THAT(Pieces("the world"), ElementsAre("t", "he", "▁world"));
  EXPECT_THAT(Pieces(" the world"), ElementsAre("▁the▁", "w", "or", "ld"));
}

TEST_F(TokenizerTest, BytesForWhatHasNoPiece) {
  EXPECT_THAT(Pieces("ö"), ElementsAre("<0xC3>", "<0xB6>"));
  EXPECT_THAT(Pieces("aöé"), ElementsAre("a", "<0xC3>", "<0xB6>", "é"));
}

TEST_F(TokenizerTest, BrokenUtf8ReadsAsReplacementCharacters) {
  const std::vector<std::string> replacement = {"<0xEF>", "<0xBF>", "<0xBD>"};
  EXPECT_EQ(Pieces("\xFF"), replacement);
  EXPECT_EQ(Pieces("\xED\xA0\x80").size(), 9u);  // a surrogate: three bytes that are no character
  EXPECT_THAT(*tokenizer_->Decode(tokenizer_->Encode("a\xE2\x96z")), "a\uFFFD\uFFFDz");
}

TEST_F(TokenizerTest, UserDefinedSymbolsLongestFirst) {
  EXPECT_THAT(Pieces("\n\n\n\n\n"), ElementsAre("\n\n\n", "\n\n"));
  EXPECT_THAT(Pieces("    a"), ElementsAre("▁▁▁", "▁a"));
  EXPECT_THAT(Pieces("<h1>"), ElementsAre("<h1>"));
}

TEST_F(TokenizerTest, SpecialSymbolsOnlyWhereAsked) {
  EXPECT_THAT(Pieces("<end_of_turn>", {.parse_special = true}), ElementsAre("<end_of_turn>"));
  const auto as_text = Pieces("<end_of_turn>");
  EXPECT_THAT(as_text, Not(Contains("<end_of_turn>")));
  EXPECT_GT(as_text.size(), 3u);
  EXPECT_EQ(*tokenizer_->Decode(tokenizer_->Encode("<end_of_turn>")), "<end_of_turn>");
}

// A piece that joins the parts of a special symbol must not let it in by way of merges.
TEST_F(TokenizerTest, MergesNeverMakeSpecialOrControlPieces) {
  Vocabulary vocabulary = SmallVocabulary();
  for (const char* text : {"<end_of_turn", "<bos", "end_of_turn>", "<e", "<b"})
    AddMerged(vocabulary, text);
  for (const char* text : {"nd", "nd_", "os", "tu", "rn", "rn>", "of"}) AddMerged(vocabulary, text);
  const auto tokenizer = Make(std::move(vocabulary));
  for (const bool parse_special : {false, true}) {
    const auto ids =
        tokenizer->Encode("<bos><eos><pad><unk><bos>", {.parse_special = parse_special});
    for (int32_t id = 0; id < 4; ++id) EXPECT_THAT(ids, Not(Contains(id)));
  }
  EXPECT_THAT(tokenizer->Encode("<start_of_turn><end_of_turn>"),
              Not(Contains(tokenizer->IdOf("<end_of_turn>"))));
}

TEST_F(TokenizerTest, Bos) {
  EXPECT_THAT(tokenizer_->Encode("", {.add_bos = true}), ElementsAre(2));
  EXPECT_TRUE(tokenizer_->Encode("").empty());
  Vocabulary without = SmallVocabulary();
  without.bos_id = kNoPiece;
  EXPECT_TRUE(Make(std::move(without))->Encode("", {.add_bos = true}).empty());
}

TEST_F(TokenizerTest, UnknownWithoutByteFallback) {
  Vocabulary vocabulary = SmallVocabulary();
  vocabulary.byte_fallback = false;
  std::erase_if(vocabulary.pieces,
                [](const Piece& piece) { return piece.type == PieceType::kByte; });
  const auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(tokenizer->Encode("öü"), ElementsAre(3));
  EXPECT_EQ(*tokenizer->Decode({3}), " \u2047 ");
}

TEST_F(TokenizerTest, DecodeRefusesIdsOutOfRange) {
  const auto decoded = tokenizer_->Decode({0, 5, 100'000});
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(decoded.status().message()),
              HasSubstr("token 2: expected an id from 0 to"));
  EXPECT_THAT(std::string(decoded.status().message()), HasSubstr("found 100000"));
  EXPECT_EQ(tokenizer_->Decode({-1}).status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(TokenizerTest, DecodeDropsControlPieces) {
  std::vector<int32_t> ids = tokenizer_->Encode("hello", {.add_bos = true});
  ids.push_back(tokenizer_->eos_id());
  EXPECT_EQ(*tokenizer_->Decode(ids), "hello");
}

TEST_F(TokenizerTest, BytesOf) {
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("▁the")), " the");
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("<0xE2>")), "\xE2");
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("<0x00>")), std::string(1, '\0'));
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("<bos>")), "");
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("<end_of_turn>")), "<end_of_turn>");
  EXPECT_EQ(tokenizer_->BytesOf(tokenizer_->IdOf("▁▁▁")), "   ");
}

TEST_F(TokenizerTest, IdOf) {
  for (size_t id = 0; id < tokenizer_->size(); ++id) {
    EXPECT_EQ(tokenizer_->IdOf(tokenizer_->PieceOf(static_cast<int32_t>(id))),
              static_cast<int32_t>(id));
  }
  EXPECT_EQ(tokenizer_->IdOf("no such piece"), kNoPiece);
  EXPECT_EQ(tokenizer_->IdOf(""), kNoPiece);
}

TEST_F(TokenizerTest, CreateRefusesABrokenVocabulary) {
  Vocabulary vocabulary = SmallVocabulary();
  vocabulary.pieces[9].text.clear();
  EXPECT_EQ(Tokenizer::Create(std::move(vocabulary)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// Pieces longer than what the table keeps in its slots.
TEST_F(TokenizerTest, LongPieces) {
  Vocabulary vocabulary = SmallVocabulary();
  std::string text = "in";
  while (text.size() < 40) {
    text += "in";
    AddMerged(vocabulary, text);
  }
  const auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(tokenizer->Encode(text), ElementsAre(tokenizer->IdOf(text)));
  EXPECT_EQ(*tokenizer->Decode(tokenizer->Encode(text + "i")), text + "i");
}

TEST_F(TokenizerTest, EncodesUpToALimit) {
  const Vocabulary vocabulary = SmallVocabulary();
  RandomText random(vocabulary, "hello world, the user and the model", 5);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random.Next();
    const EncodeOptions options = {.add_bos = i % 2 == 0, .parse_special = i % 3 == 0};
    const auto whole = tokenizer_->Encode(text, options);
    const auto fits = tokenizer_->EncodeAtMost(text, whole.size(), options);
    ASSERT_TRUE(fits.ok()) << fits.status();
    ASSERT_EQ(*fits, whole);
    if (whole.empty()) continue;
    for (const size_t limit : {whole.size() - 1, whole.size() / 2, size_t{0}}) {
      ASSERT_EQ(tokenizer_->EncodeAtMost(text, limit, options).status().code(),
                absl::StatusCode::kOutOfRange)
          << testing::PrintToString(text);
    }
  }
}

// 256 MiB in a moment: their bytes alone say that they are too many.
TEST_F(TokenizerTest, KnowsATextThatIsFarTooLongFromItsBytes) {
  const std::string text(size_t{256} << 20, ' ');
  EXPECT_EQ(tokenizer_->EncodeAtMost(text, 1000).status().code(), absl::StatusCode::kOutOfRange);
}

// For the thread sanitizer: one tokenizer, several threads, one answer.
TEST_F(TokenizerTest, ThreadsShareOneTokenizer) {
  const Vocabulary vocabulary = SmallVocabulary();
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> expected;
  RandomText random(vocabulary, "hello world, the user and the model", 3);
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random.Next());
    expected.push_back(tokenizer_->Encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const auto ids = tokenizer_->Encode(texts[i]);
        if (ids != expected[i] || !tokenizer_->Decode(ids).ok()) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace tandem
