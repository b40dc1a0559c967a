#include "loader/read/model_source.h"

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "tests/unit/loader/gguf_writer.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::string Golden(const std::string& name) { return absl::StrCat(kGoldenData, "/", name); }

// The error of opening `path`; "" where it opens.
std::string ErrorOf(const std::string& path) {
  const auto source = ModelSource::Open(path);
  if (source.ok()) return "";
  const std::string text(source.status().message());
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  return text;
}

std::vector<float> FirstRow(const ModelSource& source, TensorId id) {
  const SourceTensor& tensor = source.Find(id);
  std::vector<std::byte> raw(RowBytesOf(tensor.type, tensor.shape.cols));
  const absl::Status status = source.ReadRows(tensor, 0, 1, raw);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<float> row(static_cast<std::size_t>(tensor.shape.cols));
  DequantizeSource(tensor.type, raw, row);
  return row;
}

TEST(ModelSource, OpensTheGoldenSets) {
  for (const char* name : {"tiny", "small27b", "small1b"}) {
    const auto source = ModelSource::Open(
        Golden(name) + (std::string(name) == "small1b" ? "/model.safetensors" : ""));
    ASSERT_TRUE(source.ok()) << source.status();
    const ModelConfig& c = (*source)->config();
    EXPECT_EQ(c.name, name);
    EXPECT_EQ((*source)->tensors().size(), AllTensors(c).size());
    EXPECT_EQ((*source)->vocabulary().pieces.size(), static_cast<std::size_t>(c.vocab_size));
    EXPECT_EQ((*source)->vector_offset(), 1.0f);
    EXPECT_THAT(c.eos_ids, ::testing::ElementsAre(1, 106));  // eos and <end_of_turn>
  }
  const auto sharded = ModelSource::Open(Golden("small27b"));
  EXPECT_EQ((*sharded)->file_names(),
            (std::vector<std::string>{"model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors"}));
  EXPECT_EQ((*sharded)->config().query_pre_attn_scalar, 168);
  EXPECT_TRUE((*sharded)->Find({TensorKind::kQuery, 0}).name.starts_with("language_model."));
}

TEST(ModelSource, PublishedConfigurationIsTheSame) {
  for (const char* name : {"tiny", "small27b"}) {
    const TempFolder folder;
    for (const auto& entry : std::filesystem::directory_iterator(Golden(name))) {
      std::filesystem::copy(entry.path(), folder / entry.path().filename().string());
    }
    WriteFile(folder / "config.json", ReadFile(Golden(name) + "/config.published.json"));
    const auto published = ModelSource::Open(folder.path());
    ASSERT_TRUE(published.ok()) << published.status();
    ModelConfig expected = (*ModelSource::Open(Golden(name)))->config();
    expected.name = (*published)->config().name;
    EXPECT_EQ((*published)->config(), expected);
  }
}

TEST(ModelSource, GgufAndSafetensorsOfOneModelAgree) {
  const auto gguf = ModelSource::Open(Golden("small1b") + "/model-bf16.gguf");
  const auto safetensors = ModelSource::Open(Golden("small1b") + "/model.safetensors");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  ASSERT_TRUE(safetensors.ok()) << safetensors.status();
  ModelConfig config = (*gguf)->config();
  config.name = (*safetensors)->config().name;
  EXPECT_EQ(config, (*safetensors)->config());
  const Vocabulary &a = (*gguf)->vocabulary(), &b = (*safetensors)->vocabulary();
  ASSERT_EQ(a.pieces.size(), b.pieces.size());
  for (std::size_t i = 0; i < a.pieces.size(); ++i) {
    // These tokenizers spell symbols of spaces with spaces, where GGUF cannot tell them from
    // U+2581.
    EXPECT_EQ(a.pieces[i].text, absl::StrReplaceAll(b.pieces[i].text, {{" ", "\xE2\x96\x81"}}));
    EXPECT_EQ(a.pieces[i].type, b.pieces[i].type) << a.pieces[i].text;
  }
  for (const TensorId id : AllTensors(config)) {
    std::vector<float> x = FirstRow(**gguf, id), y = FirstRow(**safetensors, id);
    if (!IsMatrix(id.kind)) {
      for (float& v : x) v += (*gguf)->vector_offset();
      for (float& v : y) v += (*safetensors)->vector_offset();
    }
    EXPECT_EQ(x, y) << TensorName(id);
  }
  EXPECT_NE((*gguf)->fingerprint(), (*safetensors)->fingerprint());
}

TEST(ModelSource, BothLayoutsOfAnEncoderAgree) {
  const auto folder = ModelSource::Open(Golden("encoder") + "/model.safetensors");
  const auto gguf = ModelSource::Open(Golden("encoder") + "/encoder-bf16.gguf");
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  ModelConfig config = (*gguf)->config();
  config.name = (*folder)->config().name;
  EXPECT_EQ(config, (*folder)->config());
  EXPECT_TRUE(config.bidirectional);
  EXPECT_EQ(config.sliding_window, 9);
  EXPECT_EQ(config.dense_size, 128);
  EXPECT_TRUE((*gguf)->vocabulary().add_eos);
  EXPECT_TRUE((*folder)->vocabulary().add_eos);
  EXPECT_EQ((*folder)->file_names(), std::vector<std::string>{"model.safetensors"});
  for (const TensorId id : AllTensors(config)) {
    std::vector<float> x = FirstRow(**gguf, id), y = FirstRow(**folder, id);
    if (!IsMatrix(id.kind)) {
      for (float& v : y) v += (*folder)->vector_offset();
    }
    EXPECT_EQ(x, y) << TensorName(id);
  }
}

// A copy of the encoder to be broken.
class BrokenEncoder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy(Golden("encoder"), folder_.path(),
                          std::filesystem::copy_options::recursive);
    std::filesystem::remove(folder_ / "encoder-bf16.gguf");
    ASSERT_EQ(ErrorOf(folder_.path()), "");
  }
  // With `from` as `to` in a file, which is then as it was.
  std::string With(const std::string& name, const std::string& from, const std::string& to) {
    const std::string path = folder_ / name;
    const std::string text = ReadFile(path);
    EXPECT_NE(text.find(from), std::string::npos) << name << ": " << from;
    WriteFile(path, absl::StrReplaceAll(text, {{from, to}}));
    const std::string error = ErrorOf(folder_.path());
    EXPECT_TRUE(error.starts_with(path)) << error;
    WriteFile(path, text);
    return error;
  }
  std::string Without(const std::string& name) {
    const std::string path = folder_ / name;
    const std::string text = ReadFile(path);
    std::filesystem::remove(path);
    const std::string error = ErrorOf(folder_.path());
    EXPECT_TRUE(error.starts_with(path)) << error;
    WriteFile(path, text);
    return error;
  }
  TempFolder folder_;
};

TEST_F(BrokenEncoder, NamesTheFileAndWhatIsWrong) {
  for (const char* name : {"modules.json", "1_Pooling/config.json", "2_Dense/config.json",
                           "3_Dense/model.safetensors", "tokenizer_config.json"}) {
    EXPECT_NE(Without(name), "") << name;
  }
  const struct {
    const char* file;
    const char* from;
    const char* to;
    const char* expected;
  } cases[] = {
      {"modules.json", "models.Pooling", "models.WordWeights", "found 'Transformer, WordWeights"},
      {"modules.json", "models.Normalize", "models.Dense", "none or two Dense"},
      {"modules.json", "\"2_Dense\"", "\"../2_Dense\"", "found '../2_Dense'"},
      {"modules.json", "\"2_Dense\"", "\"..\"", "found '..'"},
      {"modules.json", "[", "{", "JSON"},
      {"1_Pooling/config.json", "\"pooling_mode_mean_tokens\": true",
       "\"pooling_mode_mean_tokens\": false", "expected true"},
      {"1_Pooling/config.json", "\"pooling_mode_cls_token\": false",
       "\"pooling_mode_cls_token\": true", "expected false"},
      {"1_Pooling/config.json", "\"include_prompt\": true", "\"include_prompt\": false",
       "include_prompt"},
      {"1_Pooling/config.json", "32", "64", "expected 32 (from the configuration)"},
      {"2_Dense/config.json", "\"bias\": false", "\"bias\": true", "'bias': expected false"},
      {"2_Dense/config.json", "linear.Identity", "activation.Tanh", "expected Identity"},
      {"3_Dense/config.json", "128", "64", "'in_features': expected 128, found 64"},
      {"2_Dense/model.safetensors", "linear.weight", "linear.height", "'linear.weight' alone"},
      {"2_Dense/model.safetensors", "[128,32]", "[32,128]", "expected (128, 32)"},
      {"tokenizer_config.json", "\"add_eos_token\": true", "\"add_eos_token\": 1",
       "'add_eos_token': expected true or false"},
  };
  for (const auto& c : cases) EXPECT_THAT(With(c.file, c.from, c.to), HasSubstr(c.expected));
  EXPECT_THAT(ErrorOf(folder_.path()), "");
}

// The modules of newer versions say the same in other words.
TEST_F(BrokenEncoder, NewerSpellingsAreTheSame) {
  const auto replace = [&](const std::string& name, const std::string& from,
                           const std::string& to) {
    WriteFile(folder_ / name, absl::StrReplaceAll(ReadFile(folder_ / name), {{from, to}}));
  };
  replace("modules.json", "sentence_transformers.models.",
          "sentence_transformers.sentence_transformer.modules.");
  WriteFile(folder_ / "1_Pooling/config.json",
            R"({"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": true})");
  EXPECT_EQ(ErrorOf(folder_.path()), "");
}

// A copy of the tiny set to be broken.
class BrokenSafetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    CopyFiles(Golden("tiny"), folder_.path(),
              {"config.json", "tokenizer.model", "model.safetensors"});
    file_ = ReadFile(folder_ / "model.safetensors");
  }
  std::string WithHeader(const std::string& from, const std::string& to) {
    std::string header = SafetensorsHeaderOf(file_);
    EXPECT_EQ(absl::StrReplaceAll({{from, to}}, &header), 1) << from;
    WriteFile(folder_ / "model.safetensors", WithSafetensorsHeader(file_, header));
    return ErrorOf(folder_.path());
  }
  TempFolder folder_;
  std::string file_;
};

TEST_F(BrokenSafetensors, NamesFileTensorExpectedAndFound) {
  const std::string path = folder_ / "model.safetensors";
  EXPECT_EQ(WithHeader("\"model.norm.weight\":", "\"lm_head.weight\":"),
            path + ": tensor 'model.norm.weight': presence: expected one, found none");
  EXPECT_EQ(WithHeader("\"model.norm.weight\":",
                       "\"language_model.model.layers.0.input_layernorm.weight\":"),
            path + ": tensor 'model.norm.weight': presence: expected one, found none");
  EXPECT_THAT(
      WithHeader("\"model.layers.7.input_layernorm.weight\":",
                 "\"language_model.model.layers.0.input_layernorm.weight\":"),
      HasSubstr("layers.0.input_layernorm.weight': presence: expected one, found another, '"));
  EXPECT_EQ(WithHeader("\"model.layers.7.input_layernorm.weight\":",
                       "\"model.layers.8.input_layernorm.weight\":"),
            path +
                ": tensor 'model.layers.8.input_layernorm.weight': name: expected a tensor of "
                "Gemma 3 with 8 layers, found another");
  EXPECT_THAT(WithHeader("\"model.layers.3.self_attn.q_norm.weight\":{\"dtype\":\"BF16\"",
                         "\"model.layers.3.self_attn.q_norm.weight\":{\"dtype\":\"I16\""),
              HasSubstr("'model.layers.3.self_attn.q_norm.weight': type: expected F32, F16 or "
                        "BF16, found 'I16'"));
  EXPECT_THAT(WithHeader("\"shape\":[2048,128]", "\"shape\":[128,2048]"),
              HasSubstr("tensor 'model.embed_tokens.weight': shape: expected (2048, 128) (from the "
                        "configuration), found (128, 2048)"));
}

TEST_F(BrokenSafetensors, TruncatedDataAndMissingSideFiles) {
  WriteFile(folder_ / "model.safetensors", file_.substr(0, file_.size() - 1));
  EXPECT_THAT(ErrorOf(folder_.path()),
              HasSubstr("data_offsets: expected a range inside the file's"));
  WriteFile(folder_ / "model.safetensors", file_);
  WriteFile(folder_ / "config.json", "{");
  EXPECT_THAT(ErrorOf(folder_.path()), HasSubstr("config.json: expected JSON"));
  ::unlink((folder_ / "config.json").c_str());
  EXPECT_THAT(ErrorOf(folder_.path()),
              HasSubstr("config.json: expected a configuration beside the weights, found no file"));
  CopyFiles(Golden("tiny"), folder_.path(), {"config.json"});
  WriteFile(folder_ / "tokenizer.model", "not a model");
  EXPECT_THAT(ErrorOf(folder_.path()), HasSubstr("tokenizer.model: "));
  ::unlink((folder_ / "tokenizer.model").c_str());
  EXPECT_THAT(ErrorOf(folder_.path()),
              HasSubstr("expected tokenizer.model or tokenizer.json, found neither"));
}

TEST_F(BrokenSafetensors, VocabularyLargerThanTheEmbedding) {
  CopyFiles(Golden("small1b"), folder_.path(), {"tokenizer.model"});
  EXPECT_THAT(
      ErrorOf(folder_.path()),
      HasSubstr("vocabulary: expected at most 2048 pieces (the embedding's rows), found 3072"));
}

TEST_F(BrokenSafetensors, FileThatShrinksAfterItWasOpened) {
  const auto source = ModelSource::Open(folder_.path());
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(::truncate((folder_ / "model.safetensors").c_str(), 40'000), 0);
  absl::Status error;
  for (const SourceTensor& tensor : (*source)->tensors()) {
    std::vector<std::byte> raw(RowBytesOf(tensor.type, tensor.shape.cols) *
                               static_cast<std::uint64_t>(tensor.shape.rows));
    const absl::Status status = (*source)->ReadRows(tensor, 0, tensor.shape.rows, raw);
    if (!status.ok()) error = status;
  }
  EXPECT_EQ(error.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(error.message()), HasSubstr("model.safetensors: tensor 'model."));
  EXPECT_THAT(std::string(error.message()), HasSubstr("became shorter"));
}

TEST(ModelSource, ShardsMustBeAsTheIndexSays) {
  const TempFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(Golden("small27b"))) {
    std::filesystem::copy(entry.path(), folder / entry.path().filename().string());
  }
  const std::string index = ReadFile(folder / "model.safetensors.index.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = index;
    EXPECT_EQ(absl::StrReplaceAll({{from, to}}, &text), 1);
    WriteFile(folder / "model.safetensors.index.json", text);
    return ErrorOf(folder.path());
  };
  EXPECT_THAT(with("\"language_model.model.norm.weight\": \"model-00002",
                   "\"language_model.model.norm.weight\": \"model-00001"),
              HasSubstr("tensor 'language_model.model.norm.weight': place: expected it in "
                        "'model-00001-of-00002.safetensors', found it in 'model-00002-of"));
  EXPECT_THAT(with("\"language_model.model.norm.weight\"", "\"language_model.model.other.weight\""),
              HasSubstr("found it in no shard"));
  WriteFile(folder / "model.safetensors.index.json", index);
  CopyFiles(Golden("small27b"), folder.path(), {"model-00001-of-00002.safetensors"});
  WriteFile(folder / "model-00002-of-00002.safetensors",
            ReadFile(folder / "model-00001-of-00002.safetensors"));
  EXPECT_THAT(
      ErrorOf(folder.path()),
      HasSubstr("place: expected one shard, found it in model-00001-of-00002.safetensors too"));
}

// A GGUF of the tiny set's vocabulary with zero weights.
GgufBuilder TinyGguf() {
  const auto tiny = ModelSource::Open(Golden("tiny"));
  EXPECT_TRUE(tiny.ok());
  const ModelConfig& c = (*tiny)->config();
  GgufBuilder b = GgufOf(c, (*tiny)->vocabulary());
  for (const TensorId id : AllTensors(c)) {
    const TensorShape shape = ShapeOf(c, id.kind);
    const bool matrix = IsMatrix(id.kind);
    std::vector<std::uint64_t> dims = {static_cast<std::uint64_t>(shape.cols)};
    if (matrix) dims.push_back(static_cast<std::uint64_t>(shape.rows));
    const std::uint64_t bytes =
        RowBytesOf(matrix ? SourceType::kQ8_0 : SourceType::kF32, shape.cols) *
        static_cast<std::uint64_t>(shape.rows);
    b.tensors.push_back({GgufName(id), dims, matrix ? 8u : 0u, std::string(bytes, '\0'), -1});
  }
  return b;
}

struct BadModel {
  const char* name;
  std::function<void(GgufBuilder&)> change;
  const char* expected;
};
class BrokenGguf : public ::testing::TestWithParam<BadModel> {};

TEST_P(BrokenGguf, NamesFileTensorExpectedAndFound) {
  const TempFolder folder;
  GgufBuilder b = TinyGguf();
  GetParam().change(b);
  WriteFile(folder / "tiny.gguf", b.Bytes());
  const std::string error = ErrorOf(folder / "tiny.gguf");
  if (std::string(GetParam().expected).empty()) {
    EXPECT_EQ(error, "");
    return;
  }
  EXPECT_THAT(error, ::testing::StartsWith(folder / "tiny.gguf: "));
  EXPECT_THAT(error, HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenGguf,
    ::testing::Values(
        BadModel{"good", [](GgufBuilder&) {}, ""},
        BadModel{"missing", [](GgufBuilder& b) { b.tensors.pop_back(); },
                 "tensor 'blk.7.post_ffw_norm.weight': presence: expected one, found none"},
        BadModel{"another",
                 [](GgufBuilder& b) { b.Find("output_norm.weight").name = "output.weight"; },
                 "tensor 'output.weight': name: expected a tensor of gemma3 with 8 blocks"},
        BadModel{"swapped_shape",
                 [](GgufBuilder& b) { std::swap(b.tensors[0].dims[0], b.tensors[0].dims[1]); },
                 "tensor 'token_embd.weight': shape: expected (2048, 128) (from the "
                 "configuration), found (128, 2048)"},
        BadModel{"three_dims", [](GgufBuilder& b) { b.tensors[0].dims.push_back(1); },
                 "found (1, 2048, 128)"},
        BadModel{"type", [](GgufBuilder& b) { b.tensors[0].type = 10; },
                 "tensor 'token_embd.weight': type: expected F32, F16, BF16, Q8_0, Q5_0, Q4_0, "
                 "Q4_K, Q5_K or Q6_K, found number 10"},
        BadModel{"architecture",
                 [](GgufBuilder& b) { b.Set("general.architecture", GgufString("gemma2")); },
                 "architecture: expected 'gemma3' or 'gemma-embedding', found 'gemma2'"},
        BadModel{"vocabulary",
                 [](GgufBuilder& b) { b.Set("tokenizer.ggml.scores", GgufFloats({1})); },
                 "scores"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tandem
