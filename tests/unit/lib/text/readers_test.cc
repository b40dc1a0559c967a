#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/text/gguf_vocabulary.h"
#include "lib/text/sentencepiece_model.h"
#include "lib/text/tokenizer.h"
#include "lib/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/unit/lib/text/random_text.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

std::shared_ptr<const Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *tokenizer;
}

void ExpectSame(const Vocabulary& found, const Vocabulary& expected) {
  ASSERT_EQ(found.pieces.size(), expected.pieces.size());
  for (size_t id = 0; id < found.pieces.size(); ++id) {
    ASSERT_EQ(found.pieces[id].text, expected.pieces[id].text) << id;
    ASSERT_EQ(found.pieces[id].type, expected.pieces[id].type) << id;
    ASSERT_EQ(found.pieces[id].special, expected.pieces[id].special) << id;
    ASSERT_EQ(found.pieces[id].score, expected.pieces[id].score) << id;
  }
  EXPECT_EQ(found.bos_id, expected.bos_id);
  EXPECT_EQ(found.eos_id, expected.eos_id);
  EXPECT_EQ(found.unk_id, expected.unk_id);
  EXPECT_EQ(found.pad_id, expected.pad_id);
  EXPECT_EQ(found.add_bos, expected.add_bos);
  EXPECT_EQ(found.byte_fallback, expected.byte_fallback);
  EXPECT_EQ(found.add_dummy_prefix, expected.add_dummy_prefix);
  EXPECT_EQ(found.remove_extra_whitespaces, expected.remove_extra_whitespaces);
  EXPECT_EQ(found.unk_surface, expected.unk_surface);
}

// Scores as ranks 0, -1, -2 ..., as trained vocabularies have them.
Vocabulary RankedVocabulary() {
  Vocabulary vocabulary = SmallVocabulary();
  float rank = 0;
  for (Piece& piece : vocabulary.pieces) {
    if (piece.type == PieceType::kNormal) piece.score = -rank++;
  }
  return vocabulary;
}

TEST(SentencePieceModelTest, ReadsWhatWasWritten) {
  for (int setting = 0; setting < 4; ++setting) {
    Vocabulary vocabulary = SmallVocabulary();
    vocabulary.add_dummy_prefix = (setting & 1) != 0;
    vocabulary.remove_extra_whitespaces = (setting & 2) != 0;
    vocabulary.unk_surface.assign(1, '?');
    const auto read = ReadSentencePieceModel(WriteSentencePieceModel(vocabulary));
    ASSERT_TRUE(read.ok()) << read.status();
    ExpectSame(*read, vocabulary);
  }
}

TEST(SentencePieceModelTest, GoldenFiles) {
  size_t found = 0;
  for (std::string_view set : kGoldenSets) {
    const auto model = ReadGoldenFile(set, "tokenizer.model");
    if (!model) continue;
    ++found;
    const auto vocabulary = ReadSentencePieceModel(*model);
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
    EXPECT_EQ(vocabulary->pad_id, 0);
    EXPECT_EQ(vocabulary->eos_id, 1);
    EXPECT_EQ(vocabulary->bos_id, 2);
    EXPECT_EQ(vocabulary->unk_id, 3);
    EXPECT_TRUE(vocabulary->byte_fallback);
    EXPECT_FALSE(vocabulary->add_dummy_prefix);
    EXPECT_FALSE(vocabulary->remove_extra_whitespaces);
    EXPECT_EQ(vocabulary->pieces[105].text, "<start_of_turn>");
    EXPECT_TRUE(vocabulary->pieces[105].special);
    const auto again = ReadSentencePieceModel(WriteSentencePieceModel(*vocabulary));
    ASSERT_TRUE(again.ok()) << again.status();
    ExpectSame(*again, *vocabulary);
  }
  EXPECT_GT(found, 0) << "the repository carries golden sets";
}

TEST(SentencePieceModelTest, EveryTruncationIsAnErrorOrSmaller) {
  const std::string model = WriteSentencePieceModel(SmallVocabulary());
  for (size_t size = 0; size < model.size(); ++size) {
    const auto read = ReadSentencePieceModel(std::string_view(model).substr(0, size));
    if (read.ok()) continue;  // cut between two fields
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("tokenizer.model: "));
  }
}

TEST(SentencePieceModelTest, BrokenBytes) {
  const auto error = [](std::string_view bytes) {
    const auto read = ReadSentencePieceModel(bytes);
    EXPECT_FALSE(read.ok());
    return std::string(read.status().message());
  };
  EXPECT_THAT(error(""), HasSubstr("expected model_type 2 (BPE), found 1"));
  EXPECT_THAT(error("\x0A\x7F"), HasSubstr("byte 2: expected 127 bytes, found 0"));
  EXPECT_THAT(error("\x0A"), HasSubstr("expected the rest of a varint"));
  EXPECT_THAT(error("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
              HasSubstr("varint of at most 10"));
  EXPECT_THAT(error("\x0B"), HasSubstr("expected wire type 0, 1, 2 or 5, found 3"));
  EXPECT_THAT(error(std::string_view("\0", 1)), HasSubstr("expected a field tag"));
  EXPECT_THAT(error("\x08\x01"), HasSubstr("field 1: expected wire type 2, found 0"));
  EXPECT_THAT(error("\x0A\x02\x18\x07"), HasSubstr("type: expected 1 to 6, found 7"));
}

TEST(SentencePieceModelTest, RefusesWhatGemmaDoesNotUse) {
  const std::string good = WriteSentencePieceModel(SmallVocabulary());
  const auto error = [&](std::string_view extra) {
    const auto read = ReadSentencePieceModel(good + std::string(extra));
    EXPECT_EQ(read.status().code(), absl::StatusCode::kUnimplemented);
    return std::string(read.status().message());
  };
  // Later fields win, and messages merge: protobuf's rules.
  EXPECT_THAT(error("\x12\x02\x18\x01"), HasSubstr("expected model_type 2 (BPE), found 1"));
  EXPECT_THAT(error("\x1A\x03\x12\x01x"), HasSubstr("precompiled_charsmap"));
  EXPECT_THAT(error("\x2A\x03\x12\x01x"), HasSubstr("precompiled_charsmap"));
  EXPECT_THAT(error(std::string_view("\x1A\x02\x28\x00", 4)), HasSubstr("escape_whitespaces"));
  EXPECT_THAT(error("\x12\x03\xC0\x01\x01"), HasSubstr("treat_whitespace_as_suffix"));
}

class TokenizerJsonTest : public testing::Test {
 protected:
  static std::string ErrorOf(const std::function<void(Json&)>& change) {
    Json root = Json::parse(WriteTokenizerJson(SmallVocabulary(), MergeSpelling::kArray));
    change(root);
    const auto read = ReadTokenizerJson(root.dump());
    EXPECT_FALSE(read.ok());
    return std::string(read.status().ToString());
  }
};

TEST_F(TokenizerJsonTest, GivesTheSameIds) {
  const Vocabulary vocabulary = SmallVocabulary();
  const auto expected = Make(vocabulary);
  for (const MergeSpelling spelling : {MergeSpelling::kString, MergeSpelling::kArray}) {
    auto read = ReadTokenizerJson(WriteTokenizerJson(vocabulary, spelling));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->bos_id, 2);
    EXPECT_EQ(read->eos_id, 1);
    EXPECT_EQ(read->pad_id, 0);
    EXPECT_EQ(read->unk_id, 3);
    EXPECT_TRUE(read->byte_fallback);
    EXPECT_TRUE(read->pieces[4].special);
    EXPECT_FALSE(read->pieces[6].special);
    const auto found = Make(*std::move(read));
    RandomText random(vocabulary, "hello the world", 2);
    for (int i = 0; i < 5000; ++i) {
      const std::string text = random.Next();
      ASSERT_EQ(found->Encode(text), expected->Encode(text)) << testing::PrintToString(text);
    }
  }
}

TEST_F(TokenizerJsonTest, DummyPrefix) {
  Json root = Json::parse(WriteTokenizerJson(SmallVocabulary(), MergeSpelling::kArray));
  root["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers", {{{"type", "Prepend"}, {"prepend", "▁"}}, root["normalizer"]}}};
  const auto read = ReadTokenizerJson(root.dump());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->add_dummy_prefix);
}

TEST_F(TokenizerJsonTest, RefusesDeepNesting) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  for (const char* text : {R"({"model": )", R"({"added_tokens": )", R"({"normalizer": )"}) {
    const auto read = ReadTokenizerJson(text + deep + "}");
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("at most 64 levels"));
  }
}

TEST_F(TokenizerJsonTest, Refusals) {
  EXPECT_THAT(std::string(ReadTokenizerJson("{").status().message()),
              HasSubstr("tokenizer.json: "));
  EXPECT_THAT(std::string(ReadTokenizerJson("[]").status().message()),
              HasSubstr("model: expected an object"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["type"] = "Unigram"; }),
              HasSubstr("expected BPE, found \"Unigram\""));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["end_of_word_suffix"] = "</w>"; }),
              HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["vocab"] = 1; }),
              HasSubstr("model.vocab: expected an object, found 1"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["vocab"]["he"] = -1; }),
              HasSubstr("expected an id below"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["vocab"]["he"] = 4'000'000; }),
              HasSubstr("without gaps"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["vocab"]["he"] = 0; }),
              HasSubstr("expected id 0 for one text"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["vocab"].erase("he"); }), HasSubstr("found none"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["merges"] = 3; }),
              HasSubstr("model.merges: expected an array"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["merges"][0] = "a b c"; }),
              HasSubstr("model.merges[0]"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["merges"][1] = {"a"}; }),
              HasSubstr("expected two pieces"));
  EXPECT_THAT(ErrorOf([](Json& r) {
                r["model"]["merges"][1] = {"q", "zz"};
              }),
              HasSubstr("two pieces that make a third"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["unk_token"] = nullptr; }),
              HasSubstr("model.unk_token"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["model"]["byte_fallback"] = "yes"; }),
              HasSubstr("expected a boolean"));
  EXPECT_THAT(ErrorOf([](Json& r) {
                r["model"]["byte_fallback"] = false;
                r["model"]["vocab"]["x "] = 5;
              }),
              HasSubstr("expected id 5 for one text"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["added_tokens"] = 3; }),
              HasSubstr("added_tokens: expected an array"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["added_tokens"][0].erase("content"); }),
              HasSubstr("added_tokens[0].content"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["added_tokens"][0]["id"] = 99'999; }),
              HasSubstr("an id below"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["added_tokens"][0]["content"] = "he"; }),
              HasSubstr("expected id 0 for one text"));
  EXPECT_THAT(ErrorOf([](Json& r) { r["normalizer"] = {{"type", "NFKC"}}; }), HasSubstr("NFKC"));
  EXPECT_THAT(ErrorOf([](Json& r) {
                r["pre_tokenizer"] = {{"type", "ByteLevel"}};
              }),
              HasSubstr("ByteLevel"));
}

// Tokens, scores and types as GGUF carries them.
struct Gguf {
  std::vector<std::string> texts;
  std::vector<std::string_view> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;

  explicit Gguf(const Vocabulary& vocabulary) {
    for (const Piece& piece : vocabulary.pieces) {
      texts.push_back(piece.text);
      scores.push_back(piece.score);
      types.push_back(static_cast<int32_t>(piece.type));
    }
  }
  GgufVocabularyArrays Arrays() {
    tokens.assign(texts.begin(), texts.end());
    GgufVocabularyArrays arrays;
    arrays.tokens = tokens;
    arrays.scores = scores;
    arrays.types = types;
    arrays.bos_id = 2;
    arrays.eos_id = 1;
    arrays.pad_id = 0;
    arrays.add_space_prefix = false;
    return arrays;
  }
};

TEST(GgufVocabularyTest, PlainArrays) {
  const Vocabulary vocabulary = RankedVocabulary();
  Gguf gguf(vocabulary);
  const auto read = VocabularyFromGgufArrays(gguf.Arrays());
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSame(*read, vocabulary);
}

TEST(GgufVocabularyTest, UserDefinedSymbolsWrittenAsNormal) {
  const Vocabulary vocabulary = RankedVocabulary();
  Gguf gguf(vocabulary);
  for (int32_t& type : gguf.types) {
    if (type == 4) type = 1;
  }
  const auto read = VocabularyFromGgufArrays(gguf.Arrays());
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSame(*read, vocabulary);
}

// The writer that takes symbols from tokenizer_config.json: specials as control, spaces unescaped,
// scores of -1000.
TEST(GgufVocabularyTest, SymbolsWrittenAsControlAndWithSpaces) {
  Vocabulary vocabulary = RankedVocabulary();
  for (Piece& piece : vocabulary.pieces) {
    if (piece.type == PieceType::kUserDefined) piece.score = -1000.0f;
  }
  vocabulary.pieces[3].score = -1000.0f;
  Gguf gguf(vocabulary);
  gguf.types[3] = 3;  // <unk>
  for (size_t id = 0; id < gguf.texts.size(); ++id) {
    if (vocabulary.pieces[id].special) gguf.types[id] = 3;
    if (gguf.texts[id] == "▁▁") gguf.texts[id] = "  ";
    if (gguf.texts[id] == "▁▁▁") gguf.texts[id] = "   ";
  }
  const auto read = VocabularyFromGgufArrays(gguf.Arrays());
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSame(*read, vocabulary);
}

// Instruction-tuned files name <end_of_turn> as eos: it is special still, and <eos> control still.
TEST(GgufVocabularyTest, EndOfTurnAsEos) {
  Gguf gguf(RankedVocabulary());
  gguf.types[4] = gguf.types[5] = 3;
  GgufVocabularyArrays arrays = gguf.Arrays();
  arrays.eos_id = 5;
  const auto read = VocabularyFromGgufArrays(arrays);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->eos_id, 5);
  EXPECT_EQ(read->pieces[5].type, PieceType::kUserDefined);
  EXPECT_TRUE(read->pieces[5].special);
  EXPECT_EQ(read->pieces[1].type, PieceType::kControl);
}

TEST(GgufVocabularyTest, Refusals) {
  const auto error = [](const std::function<void(Gguf&, GgufVocabularyArrays&)>& change) {
    Gguf gguf(RankedVocabulary());
    GgufVocabularyArrays arrays = gguf.Arrays();
    change(gguf, arrays);
    const auto read = VocabularyFromGgufArrays(arrays);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(read.status().message());
  };
  EXPECT_THAT(error([](Gguf&, GgufVocabularyArrays& a) { a.tokens = {}; }),
              HasSubstr("tokens: expected 1 to"));
  EXPECT_THAT(error([](Gguf&, GgufVocabularyArrays& a) { a.scores.remove_suffix(1); }),
              HasSubstr("scores: expected"));
  EXPECT_THAT(error([](Gguf&, GgufVocabularyArrays& a) { a.types.remove_suffix(1); }),
              HasSubstr("token_type: expected"));
  EXPECT_THAT(error([](Gguf& g, GgufVocabularyArrays&) { g.types[9] = 0; }),
              HasSubstr("token_type[9]: expected 1 to 6, found 0"));
  EXPECT_THAT(error([](Gguf&, GgufVocabularyArrays& a) { a.bos_id = 99'999; }),
              HasSubstr("bos_token_id: expected an id below"));
  EXPECT_THAT(error([](Gguf& g, GgufVocabularyArrays& a) {
                a.tokens = {};
                g.tokens[9] = "he";
                a.tokens = g.tokens;
              }),
              HasSubstr("is there twice"));
}

}  // namespace
}  // namespace tandem
