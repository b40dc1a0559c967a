#include "lib/model/config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kNewSpelling[] = R"({
  "model_type": "gemma3_text", "bos_token_id": 2, "eos_token_id": 1, "head_dim": 32, "hidden_size": 128,
  "intermediate_size": 256, "hidden_activation": "gelu_pytorch_tanh", "num_hidden_layers": 4,
  "num_attention_heads": 4, "num_key_value_heads": 2, "query_pre_attn_scalar": 24, "sliding_window": 16,
  "max_position_embeddings": 4096, "vocab_size": 2048, "tie_word_embeddings": true,
  "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
  "rope_parameters": {"full_attention": {"factor": 8.0, "rope_theta": 500000.0, "rope_type": "linear"},
                      "sliding_attention": {"rope_theta": 20000.0, "rope_type": "default"}}})";

constexpr char kOldSpelling[] = R"({
  "model_type": "gemma3_text", "bos_token_id": 2, "eos_token_id": 1, "head_dim": 32, "hidden_size": 128,
  "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
  "query_pre_attn_scalar": 24, "sliding_window": 16, "max_position_embeddings": 4096, "vocab_size": 2048,
  "sliding_window_pattern": 2, "rope_theta": 500000.0, "rope_local_base_freq": 20000.0,
  "rope_scaling": {"rope_type": "linear", "factor": 8.0}})";

ModelConfig Parse(const std::string& json) {
  const absl::StatusOr<ModelConfig> config = ParseConfigJson(json, "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig{};
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string json = kNewSpelling;
  EXPECT_EQ(absl::StrReplaceAll({{from, to}}, &json), 1) << from;
  return json;
}

TEST(ParseConfigJson, ReadsEveryField) {
  const ModelConfig c = Parse(kNewSpelling);
  EXPECT_EQ(c.vocab_size, 2048);
  EXPECT_EQ(c.hidden_size, 128);
  EXPECT_EQ(c.ffn_size, 256);
  EXPECT_EQ(c.num_layers, 4);
  EXPECT_EQ(c.num_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.max_positions, 4096);
  EXPECT_EQ(c.sliding_window, 16);
  EXPECT_EQ(c.query_pre_attn_scalar, 24);
  EXPECT_EQ(c.rope_theta_global, 500000.0f);
  EXPECT_EQ(c.rope_theta_local, 20000.0f);
  EXPECT_EQ(c.rope_factor_global, 8.0f);
  EXPECT_THAT(c.layer_is_global, ElementsAre(false, true, false, true));
  EXPECT_EQ(c.bos_id, 2);
  EXPECT_THAT(c.eos_ids, ElementsAre(1));
}

TEST(ParseConfigJson, BothSpellingsAreOneConfiguration) {
  EXPECT_EQ(Parse(kOldSpelling), Parse(kNewSpelling));
}

TEST(ParseConfigJson, NestedTextConfig) {
  const ModelConfig nested = Parse(absl::StrCat(
      R"({"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": )", kNewSpelling, "}"));
  ModelConfig expected = Parse(kNewSpelling);
  expected.eos_ids = {1, 106};
  EXPECT_EQ(nested, expected);
}

TEST(ParseConfigJson, EosAsListOrInTextConfigOnly) {
  EXPECT_THAT(Parse(Replaced("\"eos_token_id\": 1", "\"eos_token_id\": [106, 1, 106]")).eos_ids,
              ElementsAre(106, 1));
  const ModelConfig nested =
      Parse(absl::StrCat(R"({"model_type": "gemma3", "text_config": )",
                         Replaced("\"eos_token_id\": 1", "\"eos_token_id\": [7]"), "}"));
  EXPECT_THAT(nested.eos_ids, ElementsAre(7));
}

// The published 4B file names only what differs from Gemma3TextConfig's defaults.
TEST(ParseConfigJson, DefaultsOfThePublished4B) {
  const ModelConfig c = Parse(R"({"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": {
      "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}})");
  EXPECT_EQ(c.vocab_size, 262208);
  EXPECT_EQ(c.num_heads, 8);
  EXPECT_EQ(c.num_kv_heads, 4);
  EXPECT_EQ(c.head_dim, 256);
  EXPECT_EQ(c.query_pre_attn_scalar, 256);
  EXPECT_EQ(c.max_positions, 131072);
  EXPECT_EQ(c.rope_theta_global, 1e6f);
  EXPECT_EQ(c.rope_theta_local, 1e4f);
  EXPECT_FALSE(c.layer_is_global[4]);
  EXPECT_TRUE(c.layer_is_global[5]);
  EXPECT_TRUE(c.layer_is_global[29]);
  EXPECT_FALSE(c.layer_is_global[33]);
}

// Half of an encoder's window is seen each way, as transformers has it.
TEST(ParseConfigJson, Encoder) {
  const ModelConfig decoder = Parse(kNewSpelling);
  EXPECT_FALSE(decoder.bidirectional);
  ModelConfig expected = decoder;
  expected.bidirectional = true;
  expected.sliding_window = decoder.sliding_window / 2 + 1;
  EXPECT_EQ(Parse(Replaced("\"eos_token_id\": 1",
                           "\"eos_token_id\": 1, \"use_bidirectional_attention\": true")),
            expected);
  EXPECT_EQ(Parse(Replaced("\"eos_token_id\": 1",
                           "\"eos_token_id\": 1, \"use_bidirectional_attention\": false")),
            decoder);
}

TEST(ValidateModelConfig, OnlyEncodersHaveDenseMatrices) {
  ModelConfig config = Parse(kNewSpelling);
  config.dense_size = 64;
  EXPECT_THAT(std::string(ValidateModelConfig(config).message()),
              HasSubstr("dense_size: expected 0 to 0, found 64"));
  config.bidirectional = true;
  EXPECT_TRUE(ValidateModelConfig(config).ok());
}

struct BadCase {
  const char* from;
  const char* to;
  const char* expected;  // in the error
};

class ParseConfigJsonBad : public ::testing::TestWithParam<BadCase> {};

TEST_P(ParseConfigJsonBad, OneLineWithFileKeyAndFinding) {
  const absl::StatusOr<ModelConfig> config =
      ParseConfigJson(Replaced(GetParam().from, GetParam().to), "folder/config.json");
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().expected));
  EXPECT_THAT(std::string(config.status().message()),
              ::testing::StartsWith("folder/config.json: "));
  EXPECT_EQ(config.status().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, ParseConfigJsonBad,
    ::testing::Values(
        BadCase{"\"gemma3_text\"", "\"llama\"",
                "'model_type': expected \"gemma3_text\" (a Gemma 3 model), found \"llama\""},
        BadCase{"\"model_type\": \"gemma3_text\",", "", "'model_type'"},
        BadCase{"\"hidden_size\": 128", "\"hidden_size\": \"128\"",
                "'hidden_size': expected a whole number"},
        BadCase{"\"hidden_size\": 128", "\"hidden_size\": -1", "found -1"},
        BadCase{"\"hidden_size\": 128", "\"hidden_size\": 0",
                "hidden_size: expected 1 to 1048576, found 0"},
        BadCase{"\"hidden_size\": 128", "\"hidden_size\": 18446744073709551615", "'hidden_size'"},
        BadCase{"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 2000000000",
                "'num_hidden_layers': expected 1 to 1024"},
        BadCase{"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5",
                "'layer_types': expected a list of 5 names"},
        BadCase{"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
                "num_kv_heads: expected a divisor of num_heads (4), found 3"},
        BadCase{"\"head_dim\": 32", "\"head_dim\": 33",
                "head_dim: expected an even number, found 33"},
        BadCase{"\"gelu_pytorch_tanh\"", "\"silu\"", "'hidden_activation'"},
        BadCase{"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
                "'tie_word_embeddings': expected true, found false"},
        BadCase{"\"linear\"", "\"yarn\"", "expected \"default\" or \"linear\", found \"yarn\""},
        BadCase{"\"factor\": 8.0, ", "", "rope_parameters.full_attention.factor"},
        BadCase{"\"factor\": 8.0", "\"factor\": 0",
                "rope_factor_global: expected a positive number, found 0"},
        BadCase{"[\"sliding_attention\", \"full", "[\"other\", \"full", "'layer_types[0]'"},
        BadCase{"\"eos_token_id\": 1", "\"eos_token_id\": [1, null]", "'eos_token_id'"},
        BadCase{"\"eos_token_id\": 1", "\"eos_token_id\": 2048",
                "eos_ids: expected 0 to 2047, found 2048"},
        BadCase{"\"eos_token_id\": 1", "\"use_bidirectional_attention\": \"all\"",
                "'use_bidirectional_attention': expected true or false, found \"all\""},
        BadCase{"\"eos_token_id\": 1", "\"attention_bias\": true",
                "'attention_bias': expected false, found true"},
        BadCase{"\"eos_token_id\": 1", "\"final_logit_softcapping\": 30.0",
                "'final_logit_softcapping': expected null"}));

// Values that an error shows: what is nested 200,000 deep would end the stack.
TEST(ParseConfigJson, RefusesDeepNesting) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  for (const char* key : {"model_type", "hidden_size", "rope_scaling"}) {
    const auto config = ParseConfigJson("{\"" + std::string(key) + "\": " + deep + "}", "x");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(config.status().message().find("at most 64 levels"), absl::string_view::npos);
  }
}

TEST(ParseConfigJson, RefusesBrokenJson) {
  EXPECT_FALSE(ParseConfigJson("", "x").ok());
  EXPECT_FALSE(ParseConfigJson("[1]", "x").ok());
  EXPECT_FALSE(ParseConfigJson("{\"model_type\": \"gemma3_text\"", "x").ok());
  EXPECT_FALSE(ParseConfigJson(R"({"model_type": "gemma3", "text_config": 3})", "x").ok());
}

}  // namespace
}  // namespace tandem
