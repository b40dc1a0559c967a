#include "lib/text/vocabulary.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

using testing::HasSubstr;

TEST(VocabularyTest, SmallVocabularyIsValid) {
  EXPECT_TRUE(SmallVocabulary().Validate().ok()) << SmallVocabulary().Validate();
}

struct BrokenCase {
  const char* name;
  std::function<void(Vocabulary&)> spoil;
  const char* message;
};

class BrokenVocabularyTest : public testing::TestWithParam<BrokenCase> {};

TEST_P(BrokenVocabularyTest, IsRefusedByName) {
  Vocabulary vocabulary = SmallVocabulary();
  GetParam().spoil(vocabulary);
  const absl::Status status = vocabulary.Validate();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenVocabularyTest,
    testing::ValuesIn(std::vector<BrokenCase>{
        {"none", [](Vocabulary& v) { v.pieces.clear(); }, "expected 1 to 4194304 pieces, found 0"},
        {"empty", [](Vocabulary& v) { v.pieces[7].text.clear(); }, "piece 7 is empty"},
        {"long", [](Vocabulary& v) { v.pieces[7].text.assign(5000, 'x'); }, "at most 4096 bytes"},
        {"utf8", [](Vocabulary& v) { v.pieces[7].text = "\xE2\x96"; },
         "piece 7 is not valid UTF-8"},
        {"twice", [](Vocabulary& v) { v.pieces[8].text = v.pieces[6].text; }, "is there twice"},
        {"score", [](Vocabulary& v) { v.pieces[300].score = std::nanf(""); },
         "expected a finite score"},
        {"infinite",
         [](Vocabulary& v) { v.pieces[300].score = std::numeric_limits<float>::infinity(); },
         "expected a finite score, found inf"},
        {"type", [](Vocabulary& v) { v.pieces[300].type = static_cast<PieceType>(7); },
         "expected a type from 1 to 6, found 7"},
        {"special", [](Vocabulary& v) { v.pieces[300].special = true; },
         "expected type user_defined, found normal"},
        {"two_unknown", [](Vocabulary& v) { v.pieces[300].type = PieceType::kUnknown; },
         "expected one piece of type unknown, found ids 3 and 300"},
        {"no_unknown", [](Vocabulary& v) { v.pieces[3].type = PieceType::kControl; },
         "expected one piece of type unknown, found none"},
        {"unk_id", [](Vocabulary& v) { v.unk_id = 4; }, "unk_id: expected 3"},
        {"byte_text", [](Vocabulary& v) { v.pieces[20].text = "<0xZZ>"; },
         "expected <0x00> to <0xFF>"},
        {"byte_missing",
         [](Vocabulary& v) {
           v.pieces[20] = {"other", 0.0f};
         },
         "byte_fallback is on: expected 256 byte pieces, found 255"},
        {"byte_unwanted", [](Vocabulary& v) { v.byte_fallback = false; },
         "byte_fallback is off: expected 0 byte pieces, found 256"},
        {"bos", [](Vocabulary& v) { v.bos_id = 100000; }, "bos_id: expected -1 or an id below"},
        {"eos", [](Vocabulary& v) { v.eos_id = -2; }, "eos_id: expected -1 or an id below"},
        {"pad", [](Vocabulary& v) { v.pad_id = -7; }, "found -7"},
        {"surface", [](Vocabulary& v) { v.unk_surface.assign(1, '\xFF'); },
         "unk_surface is not valid UTF-8"},
    }),
    [](const auto& info) { return info.param.name; });

TEST(VocabularyTest, GemmaMarkers) {
  for (const char* text : {"<start_of_turn>", "<end_of_turn>", "<mask>", "[multimodal]",
                           "<unused0>", "<unused6241>", "<start_of_image>"}) {
    EXPECT_TRUE(IsGemmaMarker(text)) << text;
  }
  for (const char* text :
       {"", "<unused>", "<unused1", "<unused1a>", "<h1>", "\n", "start_of_turn"}) {
    EXPECT_FALSE(IsGemmaMarker(text)) << text;
  }
}

TEST(VocabularyTest, ByteOfPiece) {
  EXPECT_EQ(ByteOfPiece("<0x00>"), 0);
  EXPECT_EQ(ByteOfPiece("<0xFF>"), 255);
  EXPECT_EQ(ByteOfPiece("<0x0A>"), 10);
  for (const char* text : {"", "<0x0a>", "<0x0A", "<0x0AA>", "a", "<0xG0>"}) {
    EXPECT_EQ(ByteOfPiece(text), -1) << text;
  }
}

}  // namespace
}  // namespace tandem
