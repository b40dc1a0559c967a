// What the programs of a large model take of a device's memory.
#include "gpu-worker/stage/program_memory.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tandem {
namespace {

ModelConfig Shape27B() {
  ModelConfig config;
  config.vocab_size = 262208;
  config.hidden_size = 5376;
  config.ffn_size = 21504;
  config.num_layers = 62;
  config.num_heads = 32;
  config.num_kv_heads = 16;
  config.head_dim = 128;
  config.layer_is_global.assign(62, false);
  return config;
}

// The gpu-worker's share of plan split for the 27B shape: 62 feed-forward stages. Each of them
// once had 121 MB of its own.
TEST(ProgramMemorySizes, SplitOf27BStaysUnder300MB) {
  const ModelConfig config = Shape27B();
  std::vector<ProgramStage> stages;
  for (std::int32_t layer = 0; layer < 62; ++layer) {
    stages.push_back({{.first_half = 2 * layer + 1, .last_half = 2 * layer + 2}});
  }
  StepRules rules;
  ASSERT_EQ(rules.limits.max_tokens, 512);
  for (const std::int32_t contexts : {2, 4}) {
    const std::uint64_t bytes =
        SizeProgramMemory(config, stages, rules, contexts, false, {}).bytes();
    EXPECT_LT(bytes, 300'000'000u);
    EXPECT_GT(bytes, 512u * 2 * (5376 + 21504) * 4) << "less than its halves need";
    RecordProperty("scratch_bytes_of_" + std::to_string(contexts) + "_contexts",
                   std::to_string(bytes));
  }
  // With embedding and head on the same worker, and logits for 64 rows in each of two contexts.
  stages.insert(stages.begin(), {{.embed = true}});
  stages.push_back({{.first_half = 124, .last_half = 124, .head = true}});
  // Those are held twice, the second time for the host; final hidden states of 512 tokens once.
  EXPECT_LT(SizeProgramMemory(config, stages, rules, 2, false, {}).bytes(), 455'000'000u);
}

// Under hybrid all layers decode, short steps alone, beside attention for long ones.
TEST(ProgramMemorySizes, DecodeNeedsNoRoomForPrompts) {
  const ModelConfig config = Shape27B();
  StepRules rules;
  rules.limits.max_tokens = 2048;
  const StageSpec decode{.embed = true, .first_half = 0, .last_half = 124, .head = true};
  const StageSpec attend{.first_half = 0,
                         .last_half = 1,
                         .begin = AttentionCut::kProjected,
                         .end = AttentionCut::kAttended};
  const auto sizes = [&](std::int32_t decode_tokens) {
    const ProgramStage stages[] = {{decode, nullptr, nullptr, decode_tokens}, {attend}};
    return SizeProgramMemory(config, stages, rules, 2, false, {});
  };
  const ProgramMemorySizes bounded = sizes(512);
  EXPECT_EQ(bounded.gate_up, 512u * 2 * 21504);
  EXPECT_EQ(bounded.qkv, 2048u * (32 + 2 * 16) * 128);
  const ProgramMemorySizes all = sizes(0);
  EXPECT_EQ(all.gate_up, 2048u * 2 * 21504);
  EXPECT_EQ(all.qkv, bounded.qkv);
  EXPECT_LT(bounded.bytes() + (std::uint64_t{400} << 20), all.bytes());
}

}  // namespace
}  // namespace tandem
