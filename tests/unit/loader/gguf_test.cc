#include "loader/read/gguf.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "loader/read/gguf_model.h"
#include "tests/unit/loader/gguf_writer.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

GgufBuilder Simple() {
  GgufBuilder b;
  b.Set("general.architecture", GgufString("gemma3"));
  b.Set("some.number", GgufU32(7));
  b.Set("some.floats", GgufFloats({1, 2, 3}));
  b.tensors.push_back({"one", {64, 2}, 0, std::string(512, 'a'), -1});
  b.tensors.push_back({"two", {32}, 2, std::string(18, 'b'), -1});
  return b;
}

absl::StatusOr<GgufHeader> Parse(const std::string& bytes) {
  return ParseGgufHeader(std::make_shared<std::string>(bytes), bytes.size());
}

std::string ErrorOf(const std::string& bytes) {
  const TempFolder folder;
  WriteFile(folder / "m.gguf", bytes);
  const auto file = InputFile::Open(folder / "m.gguf");
  EXPECT_TRUE(file.ok());
  const auto header = ReadGgufHeader(*file);
  if (header.ok()) return "";
  const std::string text(header.status().message());
  EXPECT_THAT(text, ::testing::StartsWith(folder / "m.gguf: "));
  EXPECT_EQ(text.find('\n'), std::string::npos);
  return text;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const std::string bytes = Simple().Bytes();
  const auto header = Parse(bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(**header->String("general.architecture"), "gemma3");
  EXPECT_EQ(**header->Uint("some.number"), 7u);
  EXPECT_FALSE((*header->Uint("other")).has_value());
  EXPECT_EQ((*header->Array("some.floats", GgufType::kFloat32))->count, 3u);
  EXPECT_FALSE(header->Uint("some.floats").ok());
  EXPECT_FALSE(header->Array("some.floats", GgufType::kInt32).ok());
  EXPECT_FALSE(header->String("some.number").ok());
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].dims, (std::vector<std::uint64_t>{64, 2}));
  EXPECT_EQ(header->tensors[0].bytes, 512u);
  EXPECT_EQ(bytes.substr(header->tensors[1].offset, 18), std::string(18, 'b'));
}

// Cut anywhere, a file gives an error and no crash.
TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = Simple().Bytes();
  // the last tensor's padding may be missing
  const std::size_t end_of_data = bytes.size() - (32 - 18);
  for (std::size_t length = 0; length < end_of_data; ++length) {
    EXPECT_FALSE(Parse(bytes.substr(0, length)).ok()) << length;
  }
  EXPECT_THAT(ErrorOf(bytes.substr(0, 100)), HasSubstr("truncated file?"));
  EXPECT_THAT(ErrorOf(bytes.substr(0, bytes.size() - 32)),
              HasSubstr("tensor 'two': expected an end inside the file's"));
}

struct BadGguf {
  const char* name;
  std::function<void(GgufBuilder&)> change;
  const char* expected;
};
class GgufBad : public ::testing::TestWithParam<BadGguf> {};

TEST_P(GgufBad, OneLineNamesWhatIsWrong) {
  GgufBuilder b = Simple();
  GetParam().change(b);
  EXPECT_THAT(ErrorOf(b.Bytes()), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All, GgufBad,
    ::testing::Values(
        BadGguf{"magic", [](GgufBuilder& b) { b.magic = "GGML"; },
                "magic: expected 'GGUF', found 'GGML'"},
        BadGguf{"version", [](GgufBuilder& b) { b.version = 2; }, "version: expected 3, found 2"},
        BadGguf{"big_endian", [](GgufBuilder& b) { b.version = 0x03000000; }, "a big-endian file"},
        BadGguf{"tensor_count", [](GgufBuilder& b) { b.claimed_tensors = 1'000'000'000'000; },
                "expected at most 1048576"},
        BadGguf{"key_count", [](GgufBuilder& b) { b.claimed_keys = 1'000'000; }, "header:"},
        BadGguf{"key_twice", [](GgufBuilder& b) { b.metadata.push_back(b.metadata[1]); },
                "key 'some.number': expected once, found twice"},
        BadGguf{"key_empty", [](GgufBuilder& b) { b.metadata[0].first = ""; }, "key at offset"},
        BadGguf{"value_type", [](GgufBuilder& b) { b.metadata[1].second[0] = 13; },
                "key 'some.number': expected a value type of 0 to 12, found 13"},
        BadGguf{"array_type", [](GgufBuilder& b) { b.metadata[2].second[4] = 9; },
                "expected an array of scalars or strings, found type 9"},
        BadGguf{"array_count", [](GgufBuilder& b) { b.metadata[2].second[11] = 0x7f; },
                "key 'some.floats': expected fewer elements"},
        BadGguf{"string_length", [](GgufBuilder& b) { b.metadata[0].second[11] = 0x7f; },
                "truncated file?"},
        BadGguf{"alignment", [](GgufBuilder& b) { b.Set("general.alignment", GgufU32(48)); },
                "expected a power of two"},
        BadGguf{"tensor_twice", [](GgufBuilder& b) { b.tensors[1].name = "one"; },
                "tensor 'one': expected once, found twice"},
        BadGguf{"no_dims", [](GgufBuilder& b) { b.tensors[0].dims = {}; },
                "expected 1 to 4 dimensions, found 0"},
        BadGguf{"zero_dim",
                [](GgufBuilder& b) {
                  b.tensors[0].dims = {0, 2};
                },
                "tensor 'one': shape: expected 1 to 2^48"},
        BadGguf{"huge_dim",
                [](GgufBuilder& b) {
                  b.tensors[0].dims = {std::uint64_t{1} << 40, std::uint64_t{1} << 40};
                },
                "1 to 2^48 elements"},
        BadGguf{"odd_row", [](GgufBuilder& b) { b.tensors[1].dims = {33}; },
                "tensor 'two': expected rows that are a multiple of 32 (Q4_0), found 33"},
        BadGguf{"unaligned", [](GgufBuilder& b) { b.tensors[1].offset = 513; },
                "tensor 'two': expected an offset that is a multiple of 32, found 513"},
        BadGguf{"overlap", [](GgufBuilder& b) { b.tensors[1].offset = 480; },
                "tensor 'two': expected an offset after 'one' ends"},
        BadGguf{"outside", [](GgufBuilder& b) { b.tensors[1].offset = 1 << 20; },
                "tensor 'two': expected an end inside the file's"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Gguf, HeaderLongerThanTheFirstReadIsReadOn) {
  GgufBuilder b = Simple();
  b.Set("some.long", GgufString(std::string(40 << 20, 'z')));
  EXPECT_EQ(ErrorOf(b.Bytes()), "");
}

ModelConfig SmallConfig() {
  ModelConfig c;
  c.vocab_size = 0;
  c.hidden_size = 64;
  c.ffn_size = 96;
  c.num_layers = 7;
  c.num_heads = 4;
  c.num_kv_heads = 1;
  c.head_dim = 16;
  c.max_positions = 1024;
  c.sliding_window = 32;
  c.rope_factor_global = 8;
  return c;
}

Vocabulary SmallVocabulary() {
  Vocabulary v;
  v.pieces = {{"<pad>", 0, PieceType::kControl},
              {"<eos>", 0, PieceType::kControl},
              {"<bos>", 0, PieceType::kControl},
              {"<unk>", 0, PieceType::kUnknown},
              {"<end_of_turn>", 0, PieceType::kUserDefined}};
  v.pad_id = 0;
  v.eos_id = 1;
  v.bos_id = 2;
  v.unk_id = 3;
  return v;
}

absl::StatusOr<ModelConfig> ConfigOf(const std::function<void(GgufBuilder&)>& change) {
  GgufBuilder b = GgufOf(SmallConfig(), SmallVocabulary());
  change(b);
  const auto header = Parse(b.Bytes());
  EXPECT_TRUE(header.ok()) << header.status();
  return ModelConfigFromGguf(*header);
}

TEST(GgufModel, ConfigurationFromMetadata) {
  const auto c = ConfigOf([](GgufBuilder&) {});
  ASSERT_TRUE(c.ok()) << c.status();
  ModelConfig expected = SmallConfig();
  expected.vocab_size = 5;
  expected.query_pre_attn_scalar = 16;
  expected.layer_is_global = {false, false, false, false, false, true, false};
  EXPECT_EQ(*c, expected);
}

TEST(GgufModel, PatternEotAndThe27BScalar) {
  const auto pattern = ConfigOf([](GgufBuilder& b) {
    b.Set("gemma3.attention.sliding_window_pattern", GgufU32(2));
    b.Set("tokenizer.ggml.eot_token_id", GgufU32(4));
    b.Set("gemma3.rope.freq_base_swa", GgufF32(5000));
  });
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  EXPECT_EQ(pattern->layer_is_global,
            (std::vector<bool>{false, true, false, true, false, true, false}));
  EXPECT_EQ(pattern->eos_ids, (std::vector<std::int32_t>{1, 4}));
  EXPECT_EQ(pattern->rope_theta_local, 5000);
  const auto bools = ConfigOf([](GgufBuilder& b) {
    b.Set("gemma3.attention.sliding_window_pattern",
          GgufBools({true, false, true, true, true, true, true}));
  });
  ASSERT_TRUE(bools.ok()) << bools.status();
  EXPECT_EQ(bools->layer_is_global,
            (std::vector<bool>{false, true, false, false, false, false, false}));
  const auto big = ConfigOf([](GgufBuilder& b) { b.Set("gemma3.block_count", GgufU32(62)); });
  ASSERT_TRUE(big.ok()) << big.status();
  EXPECT_EQ(big->query_pre_attn_scalar, 64.0f / 4);
  EXPECT_EQ(ConfigOf([](GgufBuilder& b) {
              b.Set("gemma3.attention.key_length", GgufU32(32));
              b.Set("gemma3.attention.value_length", GgufU32(32));
            })->query_pre_attn_scalar,
            32);
}

// The same file as that of an encoder.
void MakeEncoder(GgufBuilder& b) {
  for (auto& [key, value] : b.metadata) {
    if (key.starts_with("gemma3.")) key = "gemma-embedding" + key.substr(6);
  }
  b.Set("general.architecture", GgufString("gemma-embedding"));
  b.Set("gemma-embedding.pooling_type", GgufU32(1));
}

void AddDense(GgufBuilder& b, std::uint32_t first_in, std::uint32_t last_out) {
  b.Set("gemma-embedding.dense_2_feat_in", GgufU32(first_in));
  b.Set("gemma-embedding.dense_2_feat_out", GgufU32(256));
  b.Set("gemma-embedding.dense_3_feat_in", GgufU32(256));
  b.Set("gemma-embedding.dense_3_feat_out", GgufU32(last_out));
}

TEST(GgufModel, EncoderWithDenseMatricesAndWithout) {
  ModelConfig expected = *ConfigOf([](GgufBuilder&) {});
  expected.bidirectional = true;
  expected.sliding_window = 17;
  const auto plain = ConfigOf(MakeEncoder);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(*plain, expected);
  const auto dense = ConfigOf([](GgufBuilder& b) {
    MakeEncoder(b);
    AddDense(b, 64, 64);
    b.Set("gemma-embedding.attention.causal", GgufBool(false));
  });
  ASSERT_TRUE(dense.ok()) << dense.status();
  expected.dense_size = 256;
  EXPECT_EQ(*dense, expected);
}

TEST(GgufModel, RefusesOtherEncoders) {
  const auto error = [](const std::function<void(GgufBuilder&)>& change) {
    const auto config = ConfigOf([&](GgufBuilder& b) {
      MakeEncoder(b);
      change(b);
    });
    return std::string(config.status().message());
  };
  EXPECT_THAT(error([](GgufBuilder& b) { b.Remove("gemma-embedding.pooling_type"); }),
              HasSubstr("'gemma-embedding.pooling_type': expected a value, found none"));
  EXPECT_THAT(error([](GgufBuilder& b) { b.Set("gemma-embedding.pooling_type", GgufU32(2)); }),
              HasSubstr("expected 1 (the mean), found 2"));
  EXPECT_THAT(
      error([](GgufBuilder& b) { b.Set("gemma-embedding.attention.causal", GgufBool(true)); }),
      HasSubstr("'gemma-embedding.attention.causal': expected false"));
  EXPECT_THAT(error([](GgufBuilder& b) { AddDense(b, 32, 64); }), HasSubstr("found 32 to 256"));
  EXPECT_THAT(error([](GgufBuilder& b) { AddDense(b, 64, 96); }), HasSubstr("256 to 96"));
  EXPECT_THAT(
      error([](GgufBuilder& b) { b.Set("gemma-embedding.dense_2_feat_out", GgufU32(256)); }),
      HasSubstr("dense_2_feat_in"));
  EXPECT_THAT(std::string(ConfigOf([](GgufBuilder& b) {
                            b.Set("gemma3.attention.causal", GgufBool(false));
                          })
                              .status()
                              .message()),
              HasSubstr("'gemma3.attention.causal': expected true"));
}

TEST(GgufModel, RefusesWhatItCannotBe) {
  const auto error = [](const std::string& key, const std::string& value) {
    const auto config =
        ConfigOf([&](GgufBuilder& b) { value.empty() ? b.Remove(key) : b.Set(key, value); });
    return std::string(config.status().message());
  };
  EXPECT_THAT(error("general.architecture", GgufString("llama")),
              HasSubstr("architecture: expected 'gemma3' or 'gemma-embedding', found 'llama'"));
  EXPECT_THAT(error("general.architecture", ""), HasSubstr("found none"));
  EXPECT_THAT(error("gemma3.block_count", ""),
              HasSubstr("key 'gemma3.block_count': expected a value, found none"));
  EXPECT_THAT(error("gemma3.block_count", GgufU32(4'000'000'000)), HasSubstr("found 4000000000"));
  EXPECT_THAT(error("gemma3.block_count", GgufString("7")), HasSubstr("expected an integer"));
  EXPECT_THAT(error("gemma3.rope.scaling.type", GgufString("yarn")), HasSubstr("found 'yarn'"));
  EXPECT_THAT(error("gemma3.rope.scaling.factor", ""), HasSubstr("rope.scaling.factor"));
  EXPECT_THAT(error("gemma3.attention.value_length", GgufU32(8)),
              HasSubstr("expected the key length 16, found 8"));
  EXPECT_THAT(error("gemma3.final_logit_softcapping", GgufF32(30)), HasSubstr("found 30"));
  EXPECT_THAT(error("gemma3.attention.sliding_window_pattern", GgufBools({true})),
              HasSubstr("expected 7 entries, found 1"));
  EXPECT_THAT(error("gemma3.attention.sliding_window_pattern", GgufU32(0)), HasSubstr("found 0"));
  EXPECT_THAT(error("tokenizer.ggml.tokens", ""), HasSubstr("tokenizer.ggml.tokens"));
}

TEST(GgufModel, VocabularyNeedsItsArrays) {
  const auto error = [](const std::string& key, const std::string& value) {
    GgufBuilder b = GgufOf(SmallConfig(), SmallVocabulary());
    value.empty() ? b.Remove(key) : b.Set(key, value);
    const auto header = Parse(b.Bytes());
    EXPECT_TRUE(header.ok());
    return std::string(VocabularyFromGguf(*header).status().message());
  };
  EXPECT_THAT(error("tokenizer.ggml.model", GgufString("gpt2")),
              HasSubstr("expected 'llama' (SentencePiece), found 'gpt2'"));
  EXPECT_THAT(error("tokenizer.ggml.scores", ""), HasSubstr("tokenizer.ggml.scores"));
  EXPECT_THAT(error("tokenizer.ggml.token_type", GgufFloats({1})), HasSubstr("array of type"));
  EXPECT_FALSE(error("tokenizer.ggml.scores", GgufFloats({1, 2})).empty());
}

}  // namespace
}  // namespace tandem
