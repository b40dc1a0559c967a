// Our tokenizer against libsentencepiece: the same ids for every text, the same text for all ids.
// Links neither protobuf nor gRPC, whose process the library cannot share.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/text/sentencepiece_model.h"
#include "lib/text/tokenizer.h"
#include "lib/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/unit/lib/text/random_text.h"
#include "tests/unit/lib/text/sentencepiece_oracle.h"
#include "tests/unit/lib/text/vocabulary_files.h"

namespace tandem {
namespace {

// Everything runs under sanitizers too, at a tenth of the speed: a tenth of the texts there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kShare = 10;
#else
constexpr size_t kShare = 1;
#endif
constexpr size_t kLargestFile = size_t{4} << 20;
constexpr size_t kRandomTexts = 100'000;

std::string Escaped(std::string_view text) { return testing::PrintToString(std::string(text)); }

// A vocabulary in both implementations.
class Pair {
 public:
  explicit Pair(const Vocabulary& vocabulary)
      : Pair(vocabulary, WriteSentencePieceModel(vocabulary)) {}

  // `model`: what the library loads.
  Pair(const Vocabulary& vocabulary, std::string_view model) {
    std::string error;
    library_ = SentencePieceOracle::Load(model, error);
    EXPECT_TRUE(library_ != nullptr) << error;
    auto created = Tokenizer::Create(vocabulary);
    EXPECT_TRUE(created.ok()) << created.status();
    if (created.ok()) ours_ = *std::move(created);
  }

  bool ok() const { return library_ != nullptr && ours_ != nullptr; }
  const Tokenizer& ours() const { return *ours_; }

  // Encodes and decodes `text` with both; false, after a failure of the test, on a difference.
  bool Check(std::string_view text) const {
    std::vector<int> expected;
    if (!library_->Encode(text, expected)) {
      ADD_FAILURE() << "the library refuses " << Escaped(text);
      return false;
    }
    const std::vector<int32_t> found = ours_->Encode(text, {.parse_special = true});
    EXPECT_EQ(found, expected) << "for " << Escaped(text.substr(0, 2000));
    return found == expected && CheckDecode(expected);
  }

  bool CheckDecode(const std::vector<int>& ids) const {
    std::string expected;
    if (!library_->Decode(ids, expected)) {
      ADD_FAILURE() << "the library refuses " << testing::PrintToString(ids);
      return false;
    }
    const auto found = ours_->Decode(ids);
    EXPECT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found.value_or(""), expected) << "for " << testing::PrintToString(ids);
    return found.ok() && *found == expected;
  }

 private:
  std::unique_ptr<SentencePieceOracle> library_;
  std::shared_ptr<const Tokenizer> ours_;
};

// Text of the repository to cut snippets from.
std::string SampleText() {
  for (const char* path : {"README.md", "lib/text/tokenizer.h"}) {
    if (auto text = ReadFile(path); text && !text->empty()) return *text;
  }
  return "The quick brown fox";
}

void CheckRandom(const Pair& pair, const Vocabulary& vocabulary, size_t count, uint64_t seed) {
  RandomText random(vocabulary, SampleText(), seed);
  for (size_t i = 0; i < count / kShare; ++i) {
    if (!pair.Check(random.Next())) FAIL() << "text " << i << " of seed " << seed;
    if (i % 4 == 0 && !pair.CheckDecode(random.NextIds()))
      FAIL() << "ids " << i << " of seed " << seed;
  }
}

class PromptEqualityTest : public testing::TestWithParam<std::string_view> {};

TEST_P(PromptEqualityTest, GoldenPrompts) {
  const auto model = ReadGoldenFile(GetParam(), "tokenizer.model");
  const auto text = ReadGoldenFile(GetParam(), "cases.json");
  if (!model || !text) {
    // The full sets are kept outside the repository; the others belong to it.
    ASSERT_TRUE(GetParam().starts_with("like")) << GetParam() << " is missing";
    GTEST_SKIP() << "the full golden set " << GetParam() << " is not there";
  }
  const auto vocabulary = ReadSentencePieceModel(*model);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const Pair pair(*vocabulary, *model);
  ASSERT_TRUE(pair.ok());
  const auto cases = nlohmann::json::parse(*text)["cases"];
  ASSERT_FALSE(cases.empty());
  for (const auto& item : cases) {
    const auto prompt = item["prompt"].get<std::string>();
    EXPECT_TRUE(pair.Check(prompt));
    EXPECT_EQ(pair.ours().Encode(prompt, {.add_bos = true, .parse_special = true}),
              item["ids"].get<std::vector<int32_t>>());
    if (item.contains("greedy_text")) {
      EXPECT_EQ(*pair.ours().Decode(item["greedy"].get<std::vector<int32_t>>()),
                item["greedy_text"].get<std::string>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, PromptEqualityTest, testing::ValuesIn(kGoldenSets),
                         [](const auto& info) { return std::string(info.param); });

// The different tokenizers that the repository carries: of two golden sets and of the demo model.
constexpr std::string_view kDemo = "demo";
constexpr std::string_view kTokenizers[] = {"tiny", "small1b", kDemo};

class TextEqualityTest : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    auto model = GetParam() == kDemo ? ReadFile("models/demo/tokenizer.model")
                                     : ReadGoldenFile(GetParam(), "tokenizer.model");
    ASSERT_TRUE(model) << "the tokenizer of " << GetParam() << " is missing";
    model_ = *std::move(model);
    auto vocabulary = ReadSentencePieceModel(model_);
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
    vocabulary_ = *std::move(vocabulary);
    pair_ = std::make_unique<Pair>(vocabulary_, model_);
    ASSERT_TRUE(pair_->ok());
  }

  std::string model_;
  Vocabulary vocabulary_;
  std::unique_ptr<Pair> pair_;
};

TEST_P(TextEqualityTest, EveryFileOfTheRepository) {
  namespace fs = std::filesystem;
  size_t files = 0;
  std::error_code gone;  // files that other tests make and remove meanwhile
  for (fs::recursive_directory_iterator it("."), end; it != end; it.increment(gone)) {
    const std::string name = it->path().filename();
    if (it->is_directory(gone) &&
        (name.starts_with('.') || name == "build" || name == "node_modules")) {
      it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file(gone) || it->file_size(gone) > kLargestFile) continue;
    const auto text = ReadFile(it->path());
    if (!text || text->find('\0') != std::string::npos) continue;  // removed since; no text
    ++files;
    ASSERT_TRUE(pair_->Check(*text)) << it->path();
  }
  EXPECT_GT(files, 20u);
}

TEST_P(TextEqualityTest, RandomTexts) { CheckRandom(*pair_, vocabulary_, kRandomTexts, 20261101); }

// Without parse_special, special symbols are to text what control pieces are to the library: not
// there.
TEST_P(TextEqualityTest, SpecialSymbolsAsText) {
  Vocabulary hidden = vocabulary_;
  for (Piece& piece : hidden.pieces) {
    if (std::exchange(piece.special, false)) piece.type = PieceType::kControl;
  }
  std::string error;
  const auto library = SentencePieceOracle::Load(WriteSentencePieceModel(hidden), error);
  ASSERT_TRUE(library != nullptr) << error;
  RandomText random(vocabulary_, SampleText(), 7);
  std::vector<int> ids;
  for (size_t i = 0; i < 20'000 / kShare; ++i) {
    const std::string text = random.Next();
    ids.clear();
    ASSERT_TRUE(library->Encode(text, ids));
    ASSERT_EQ(pair_->ours().Encode(text, {.parse_special = false}), ids) << Escaped(text);
  }
}

TEST_P(TextEqualityTest, TokenizerJsonGivesTheSameIds) {
  for (const MergeSpelling spelling : {MergeSpelling::kString, MergeSpelling::kArray}) {
    auto read = ReadTokenizerJson(WriteTokenizerJson(vocabulary_, spelling));
    ASSERT_TRUE(read.ok()) << read.status();
    const Pair pair(*read, model_);
    ASSERT_TRUE(pair.ok());
    CheckRandom(pair, vocabulary_, 10'000, 11);
  }
}

TEST_P(TextEqualityTest, OtherSettings) {
  for (int setting = 1; setting < 4; ++setting) {
    Vocabulary vocabulary = vocabulary_;
    vocabulary.add_dummy_prefix = (setting & 1) != 0;
    vocabulary.remove_extra_whitespaces = (setting & 2) != 0;
    const Pair pair(vocabulary);
    ASSERT_TRUE(pair.ok());
    SCOPED_TRACE(setting);
    CheckRandom(pair, vocabulary, 10'000, 100 + setting);
  }
}

TEST_P(TextEqualityTest, WithoutByteFallback) {
  Vocabulary vocabulary = vocabulary_;
  vocabulary.byte_fallback = false;
  std::erase_if(vocabulary.pieces,
                [](const Piece& piece) { return piece.type == PieceType::kByte; });
  const Pair pair(vocabulary);
  ASSERT_TRUE(pair.ok());
  CheckRandom(pair, vocabulary, 10'000, 13);
}

TEST_P(TextEqualityTest, WithUnusedPieces) {
  Vocabulary vocabulary = vocabulary_;
  std::mt19937 random(17);
  for (Piece& piece : vocabulary.pieces) {
    if (piece.type == PieceType::kNormal && random() % 4 == 0) piece.type = PieceType::kUnused;
  }
  const Pair pair(vocabulary);
  ASSERT_TRUE(pair.ok());
  CheckRandom(pair, vocabulary, 20'000, 19);
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, TextEqualityTest, testing::ValuesIn(kTokenizers),
                         [](const auto& info) { return std::string(info.param); });

TEST(EqualityTest, SmallVocabulary) {
  const Vocabulary vocabulary = SmallVocabulary();
  const Pair pair(vocabulary);
  ASSERT_TRUE(pair.ok());
  CheckRandom(pair, vocabulary, 20'000, 23);
}

// Vocabularies of random pieces with equal scores, spaces in the middle, unused and user-defined
// pieces: every order of merges that can come up does.
TEST(EqualityTest, RandomVocabularies) {
  const std::vector<std::string> letters = {"a", "b", "c", "é", "日", std::string(kSpaceSymbol)};
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    Vocabulary vocabulary = SmallVocabulary();
    std::erase_if(vocabulary.pieces,
                  [](const Piece& piece) { return piece.type == PieceType::kNormal; });
    const size_t used_letters = letters.size() - random() % 3;
    for (size_t i = 0; i < used_letters; ++i) vocabulary.pieces.push_back({letters[i], -1000.0f});
    const bool any_unused = random() % 2 == 0;
    for (int i = 0; i < 60; ++i) {
      std::string text;
      for (size_t n = 2 + random() % 4; n > 0; --n) text += letters[random() % letters.size()];
      const auto same = [&](const Piece& piece) { return piece.text == text; };
      if (std::any_of(vocabulary.pieces.begin(), vocabulary.pieces.end(), same)) continue;
      PieceType type = PieceType::kNormal;
      if (any_unused && random() % 4 == 0) type = PieceType::kUnused;
      if (random() % 16 == 0) type = PieceType::kUserDefined;
      vocabulary.pieces.push_back({text, -static_cast<float>(random() % 20), type});
    }
    const Pair pair(vocabulary);
    ASSERT_TRUE(pair.ok());
    for (int i = 0; i < 100; ++i) {
      std::string text;
      for (size_t n = random() % 60; n > 0; --n)
        text += random() % 6 == 0 ? " " : letters[random() % letters.size()];
      ASSERT_TRUE(pair.Check(text)) << "vocabulary " << seed;
    }
  }
}

}  // namespace
}  // namespace tandem
