#include "lib/wire/model_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tandem/v1/loader.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

ModelConfig Config() {
  ModelConfig config;
  config.name = "test";
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.ffn_size = 128;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_positions = 1024;
  config.sliding_window = 16;
  config.rms_norm_eps = 2e-6f;
  config.query_pre_attn_scalar = 24;
  config.rope_theta_global = 5e5f;
  config.rope_theta_local = 2e4f;
  config.rope_factor_global = 8;
  config.layer_is_global = {false, false, true};
  config.bos_id = 2;
  config.eos_ids = {1, 106};
  config.bidirectional = true;
  config.dense_size = 96;
  return config;
}

Vocabulary Words() {
  Vocabulary vocabulary;
  vocabulary.byte_fallback = false;
  vocabulary.pieces = {{"<unk>", 0.0f, PieceType::kUnknown, false},
                       {"<bos>", 0.0f, PieceType::kControl, false},
                       {"\xE2\x96\x81", -1.5f, PieceType::kNormal, false},
                       {"<start_of_turn>", 0.0f, PieceType::kUserDefined, true}};
  vocabulary.unk_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.add_bos = false;
  vocabulary.add_eos = true;
  vocabulary.add_dummy_prefix = true;
  vocabulary.remove_extra_whitespaces = true;
  vocabulary.unk_surface = "??";
  return vocabulary;
}

template <typename T>
std::string ErrorOf(const absl::StatusOr<T>& result) {
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(result.status().message());
}

TEST(ModelWire, ConfigThereAndBack) {
  const absl::StatusOr<ModelConfig> back = FromProto(ToProto(Config()));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, Config());
}

TEST(ModelWire, ConfigNamesTheField) {
  v1::ModelConfig message = ToProto(Config());
  message.set_head_dim(0);
  EXPECT_THAT(ErrorOf(FromProto(message)), HasSubstr("ModelConfig: head_dim"));
  message = ToProto(Config());
  message.add_layer_is_global(true);
  EXPECT_THAT(ErrorOf(FromProto(message)), HasSubstr("layer_is_global"));
}

TEST(ModelWire, VocabularyThereAndBack) {
  const Vocabulary words = Words();
  const absl::StatusOr<Vocabulary> back = FromProto(ToProto(words));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->pieces.size(), words.pieces.size());
  for (std::size_t i = 0; i < words.pieces.size(); ++i) {
    EXPECT_EQ(back->pieces[i].text, words.pieces[i].text);
    EXPECT_EQ(back->pieces[i].score, words.pieces[i].score);
    EXPECT_EQ(back->pieces[i].type, words.pieces[i].type);
    EXPECT_EQ(back->pieces[i].special, words.pieces[i].special);
  }
  EXPECT_EQ(back->unk_id, 0);
  EXPECT_EQ(back->bos_id, 1);
  EXPECT_EQ(back->eos_id, kNoPiece);
  EXPECT_FALSE(back->add_bos);
  EXPECT_TRUE(back->add_eos);
  EXPECT_FALSE(back->byte_fallback);
  EXPECT_TRUE(back->add_dummy_prefix);
  EXPECT_TRUE(back->remove_extra_whitespaces);
  EXPECT_EQ(back->unk_surface, "??");
}

TEST(ModelWire, VocabularyNamesTheField) {
  v1::Vocabulary message = ToProto(Words());
  message.mutable_scores()->RemoveLast();
  EXPECT_THAT(ErrorOf(FromProto(message)), HasSubstr("Vocabulary.scores: expected 4"));
  message = ToProto(Words());
  (*message.mutable_types())[2] = 9;
  EXPECT_THAT(ErrorOf(FromProto(message)),
              HasSubstr("Vocabulary.types[2]: expected 1 to 6, found 9"));
  message = ToProto(Words());
  message.set_unk_id(2);
  EXPECT_FALSE(FromProto(message).ok());
}

TEST(ModelWire, SamplingParamsThereAndBack) {
  SamplingParams params;
  params.temperature = 0.5f;
  params.top_p = 0.9f;
  params.top_k = 40;
  params.min_p = 0.05f;
  params.frequency_penalty = -1;
  params.presence_penalty = 1.5f;
  params.logit_bias = {{3, -100.0f}, {7, 2.0f}, {11, 1.0f}};
  params.seed = ~std::uint64_t{0};
  params.num_logprobs = 20;
  const absl::StatusOr<SamplingParams> back = FromProto(ToProto(params), 300);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->temperature, params.temperature);
  EXPECT_EQ(back->top_p, params.top_p);
  EXPECT_EQ(back->top_k, params.top_k);
  EXPECT_EQ(back->min_p, params.min_p);
  EXPECT_EQ(back->frequency_penalty, params.frequency_penalty);
  EXPECT_EQ(back->presence_penalty, params.presence_penalty);
  EXPECT_EQ(back->logit_bias, params.logit_bias);
  EXPECT_EQ(back->seed, params.seed);
  EXPECT_EQ(back->num_logprobs, params.num_logprobs);
  EXPECT_THAT(ErrorOf(FromProto(ToProto(params), 10)), HasSubstr("logit_bias"));
}

TEST(ModelWire, SampledTokenThereAndBack) {
  const SampledToken token{5, -0.25f, {{5, -0.25f}, {6, -3.0f}}};
  const absl::StatusOr<SampledToken> back = FromProto(ToProto(token), 300);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->token, 5);
  EXPECT_EQ(back->logprob, -0.25f);
  ASSERT_EQ(back->top.size(), 2u);
  EXPECT_EQ(back->top[1].token, 6);
  EXPECT_THAT(ErrorOf(FromProto(ToProto(token), 6)), HasSubstr("SampledToken.top[1].token"));
  v1::SampledToken message = ToProto(token);
  message.set_logprob(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(ErrorOf(FromProto(message, 300)), HasSubstr("SampledToken.logprob"));
}

TEST(ModelWire, PlanThereAndBack) {
  const absl::StatusOr<Plan> plan =
      MakePlan("split", Config(), {{"gpu0", WorkerRole::kGpu}, {"npu0", WorkerRole::kNpu}});
  ASSERT_TRUE(plan.ok());
  const absl::StatusOr<Plan> back = FromProto(ToProto(*plan), Config());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->name, "split");
  EXPECT_EQ(back->routes, plan->routes);
  v1::Plan message = ToProto(*plan);
  message.mutable_routes(0)->mutable_stages(1)->set_part("legs");
  EXPECT_THAT(ErrorOf(FromProto(message, Config())), HasSubstr("Plan.routes[0].stages[1].part"));
  message = ToProto(*plan);
  message.mutable_routes(0)->mutable_stages()->RemoveLast();
  EXPECT_FALSE(FromProto(message, Config()).ok());
}

TEST(ModelWire, RoutesThereAndBack) {
  const absl::StatusOr<Plan> plan =
      MakePlan("hybrid", Config(), {{"gpu0", WorkerRole::kGpu}, {"npu0", WorkerRole::kNpu}});
  ASSERT_TRUE(plan.ok());
  v1::Plan message = ToProto(*plan);
  const absl::StatusOr<Plan> back = FromProto(message, Config());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->routes, plan->routes);
  message.mutable_routes(1)->set_use("sometimes");
  EXPECT_THAT(ErrorOf(FromProto(message, Config())), HasSubstr("Plan.routes[1].use"));
  message = ToProto(*plan);
  message.mutable_routes()->RemoveLast();
  EXPECT_THAT(ErrorOf(FromProto(message, Config())), HasSubstr("found 1: decode"));
  message.clear_routes();
  EXPECT_FALSE(FromProto(message, Config()).ok());
}

TEST(ModelWire, StepLimitsThereAndBack) {
  const StepLimits limits{.max_tokens = 7,
                          .max_sequences = 3,
                          .max_logit_rows = 4,
                          .max_blocks_per_sequence = 9,
                          .max_decode_tokens = 5};
  const absl::StatusOr<StepLimits> back = FromProto(ToProto(limits));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, limits);
  v1::StepLimits message = ToProto(limits);
  message.set_max_logit_rows(0);
  EXPECT_THAT(ErrorOf(FromProto(message)), HasSubstr("StepLimits.max_logit_rows: expected 1"));
  message = ToProto(limits);
  message.set_max_decode_tokens(8);
  EXPECT_THAT(ErrorOf(FromProto(message)), HasSubstr("max_decode_tokens: expected 0 to 7"));
}

}  // namespace
}  // namespace tandem
