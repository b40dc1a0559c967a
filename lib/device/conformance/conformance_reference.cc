#include <cstdio>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

constexpr std::size_t kPromptTokens = 45;

void EqualsReference(const ConformanceTarget& target, Device* device, const ModelConfig& config,
                     WeightFormat format, ActivationType activations, KvType kv_type) {
  const auto model = MakeConformanceModel(config, format);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options;
  options.activations = activations;
  options.kv_type = kv_type;
  const auto runner = ModelRunner::Make(device, config, model->regions, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto tokens = RandomTokens(config, kPromptTokens, 7);
  const auto found = (*runner)->Prefill(0, tokens, 20);
  ASSERT_TRUE(found.ok()) << found.status();
  const Difference difference = Compare(model->reference->Logits(tokens), *found);
  std::printf("difference largest %.2e mean %.2e\n", difference.largest, difference.mean);
  const ConformanceTolerances& tolerances = target.tolerances;
  if (activations == ActivationType::kInt8) {
    EXPECT_LE(difference.largest, tolerances.int8_activations);
    EXPECT_LE(difference.mean, tolerances.int8_activations_mean);
    EXPECT_GT(difference.largest, 0) << "activations were not rounded at all";
  } else {
    EXPECT_LE(difference.largest, kv_type == KvType::kFloat16 ? tolerances.float16_kv
                                  : kv_type == KvType::kInt8  ? tolerances.int8_kv
                                                              : ToleranceOf(tolerances, format));
    if (kv_type == KvType::kInt8) {
      EXPECT_GT(difference.largest, tolerances.float16_kv) << "keys and values were not rounded";
    }
  }
}

// Prompts in steps of many tokens, of few and of one: the device may choose another kernel for
// each.
void AutoEqualsReference(const ConformanceTarget& target, Device* device, const ModelConfig& config,
                         WeightFormat format, KvType kv_type) {
  const auto model = MakeConformanceModel(config, format);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options;
  options.activations = ActivationType::kAuto;
  options.kv_type = kv_type;
  const auto runner = ModelRunner::Make(device, config, model->regions, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto tokens = RandomTokens(config, kPromptTokens, 7);
  const std::vector<float> expected = model->reference->Logits(tokens);
  std::int32_t slot = 0;
  for (const std::int32_t chunk : {20, 5, 1}) {
    const auto found = (*runner)->Prefill(slot++, tokens, chunk);
    ASSERT_TRUE(found.ok()) << found.status();
    const Difference difference = Compare(expected, *found);
    std::printf("steps of %d: difference largest %.2e mean %.2e\n", chunk, difference.largest,
                difference.mean);
    EXPECT_LE(difference.largest, target.tolerances.int8_activations) << chunk;
    EXPECT_LE(difference.mean, target.tolerances.int8_activations_mean) << chunk;
  }
}

// In one stage, and with the head on its own; in steps of many tokens and of one. Who does not ask
// gets none.
void HiddenStatesEqualReference(const ConformanceTarget& target, Device* device,
                                WeightFormat format) {
  const ModelConfig config = ConformanceConfig();
  const auto model = MakeConformanceModel(config, format);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokens = RandomTokens(config, kPromptTokens, 8);
  const std::vector<float> expected = model->reference->HiddenStates(tokens);
  for (const std::vector<StageSpec>& stages : {std::vector<StageSpec>(), OneStagePerHalf(config)}) {
    const auto runner = ModelRunner::Make(device, config, model->regions,
                                          {.stages = stages, .hidden_states = true});
    ASSERT_TRUE(runner.ok()) << runner.status();
    std::int32_t slot = 0;
    for (const std::int32_t chunk : {20, 1}) {
      const auto logits = (*runner)->Prefill(slot++, tokens, chunk);
      ASSERT_TRUE(logits.ok()) << logits.status();
      const Difference difference = Compare(expected, (*runner)->TakeHiddenStates());
      std::printf("steps of %d: difference largest %.2e\n", chunk, difference.largest);
      EXPECT_LE(difference.largest, ToleranceOf(target.tolerances, format)) << chunk;
    }
  }
  const auto quiet = ModelRunner::Make(device, config, model->regions, {});
  ASSERT_TRUE(quiet.ok()) << quiet.status();
  ASSERT_TRUE((*quiet)->Prefill(0, tokens, 20).ok());
  EXPECT_TRUE((*quiet)->TakeHiddenStates().empty());
}

// Attention in both directions: sequences of odd lengths in one step, in one stage and in many, in
// tiles and without; and a sequence that goes on is refused.
void EncoderEqualsReference(const ConformanceTarget& target, Device* device, ModelConfig config,
                            WeightFormat format) {
  config.bidirectional = true;
  config.dense_size = 160;
  const auto model = MakeConformanceModel(config, format);
  ASSERT_TRUE(model.ok()) << model.status();
  for (const std::vector<StageSpec>& stages : {std::vector<StageSpec>(), OneStagePerHalf(config)}) {
    const RunnerOptions options = {.stages = stages,
                                   .limits = {.max_tokens = 160,
                                              .max_sequences = 4,
                                              .max_logit_rows = 160,
                                              .max_blocks_per_sequence = 16},
                                   .hidden_states = true};
    const auto runner = ModelRunner::Make(device, config, model->regions, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    for (const std::vector<std::size_t>& lengths :
         {std::vector<std::size_t>{45}, {1, 67, 15, 3}, {1, 1}, {97, 33}}) {
      std::vector<RunnerShare> shares;
      std::vector<float> expected;
      for (const std::size_t length : lengths) {
        const auto slot = static_cast<std::int32_t>(shares.size());
        shares.push_back({slot, RandomTokens(config, length, 40u + static_cast<unsigned>(length))});
        const std::vector<float> states = model->reference->HiddenStates(shares.back().tokens);
        expected.insert(expected.end(), states.begin(), states.end());
      }
      ASSERT_TRUE((*runner)->Step(shares).ok());
      const Difference difference = Compare(expected, (*runner)->TakeHiddenStates());
      std::printf("%d sequences: difference largest %.2e\n", static_cast<int>(lengths.size()),
                  difference.largest);
      EXPECT_LE(difference.largest, ToleranceOf(target.tolerances, format));
      const absl::StatusOr<std::vector<float>> further = (*runner)->Step({shares.data(), 1});
      EXPECT_EQ(further.status().code(), absl::StatusCode::kInvalidArgument) << further.status();
      for (const RunnerShare& share : shares) (*runner)->End(share.slot);
    }
  }
}

// Rounding activations to 8 bits means nothing for bf16 weights.
void Int8ActivationsRefused(Device* device, const ModelConfig& config, WeightFormat format) {
  const auto model = MakeConformanceModel(config, format);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options;
  options.activations = ActivationType::kInt8;
  const auto runner = ModelRunner::Make(device, config, model->regions, options);
  ASSERT_FALSE(runner.ok());
  EXPECT_EQ(runner.status().code(), absl::StatusCode::kUnimplemented) << runner.status();
  EXPECT_FALSE(runner.status().message().empty());
}

}  // namespace

std::vector<ConformanceCase> ReferenceCases(const ConformanceTarget& target) {
  std::vector<ConformanceCase> cases;
  const auto add = [&cases](const ConformanceShape& shape, WeightFormat format,
                            ActivationType activations, KvType kv_type) {
    cases.push_back(
        {"EqualsReference_" + shape.name + "_" + VariantName(format, activations, kv_type),
         [=](const ConformanceTarget& t, Device* device) {
           EqualsReference(t, device, shape.config, format, activations, kv_type);
         }});
  };
  for (const ConformanceShape& shape : ConformanceShapes()) {
    for (const WeightFormat format : target.formats) {
      add(shape, format, ActivationType::kFloat32, KvType::kFloat32);
      if (target.int8_activations && format != WeightFormat::kBf16) {
        add(shape, format, ActivationType::kInt8, KvType::kFloat32);
      }
      if (!target.auto_activations || format == WeightFormat::kBf16) continue;
      for (const KvType type : target.kv_types) {
        cases.push_back({"EqualsReference_" + shape.name + "_" +
                             VariantName(format, ActivationType::kAuto, type),
                         [=](const ConformanceTarget& t, Device* device) {
                           AutoEqualsReference(t, device, shape.config, format, type);
                         }});
      }
    }
    for (const KvType type : target.kv_types) {
      if (type != KvType::kFloat32)
        add(shape, target.formats.front(), ActivationType::kFloat32, type);
    }
  }
  for (const WeightFormat format : target.formats) {
    cases.push_back({"HiddenStatesEqualReference_" + std::string(WeightFormatName(format)),
                     [format](const ConformanceTarget& t, Device* device) {
                       HiddenStatesEqualReference(t, device, format);
                     }});
  }
  for (const ConformanceShape& shape : ConformanceShapes()) {
    const WeightFormat format = target.formats[cases.size() % target.formats.size()];
    cases.push_back({"EncoderEqualsReference_" + shape.name,
                     [config = shape.config, format](const ConformanceTarget& t, Device* device) {
                       EncoderEqualsReference(t, device, config, format);
                     }});
  }
  for (const WeightFormat format : target.formats) {
    if (target.int8_activations && format != WeightFormat::kBf16) continue;
    cases.push_back({"Int8ActivationsRefused_" + std::string(WeightFormatName(format)),
                     [format](const ConformanceTarget&, Device* device) {
                       Int8ActivationsRefused(device, ConformanceConfig(), format);
                     }});
  }
  return cases;
}

}  // namespace tandem
