#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/shared_memory.h"
#include "lib/device/submissions.h"
#include "lib/device/validate.h"

namespace tandem {
namespace {

using testing::HasSubstr;

ModelConfig Config() {
  ModelConfig config;
  config.vocab_size = 100;
  config.hidden_size = 32;
  config.ffn_size = 64;
  config.num_layers = 3;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 16;
  config.sliding_window = 20;
  config.layer_is_global = {false, true, false};
  return config;
}

constexpr StepLimits kLimits = {
    .max_tokens = 8, .max_sequences = 2, .max_logit_rows = 4, .max_blocks_per_sequence = 8};

TEST(StageSpecName, SaysWhatRuns) {
  EXPECT_EQ(StageSpecName({.embed = true, .first_half = 0, .last_half = 6, .head = true}),
            "embed+layers 0-2+head");
  EXPECT_EQ(StageSpecName({.first_half = 2, .last_half = 3}), "attention 1");
  EXPECT_EQ(StageSpecName({.first_half = 3, .last_half = 4}), "ffn 1");
  EXPECT_EQ(StageSpecName({.first_half = 1, .last_half = 5}), "ffn 0+layer 1+attention 2");
  constexpr AttentionCut kProjected = AttentionCut::kProjected;
  constexpr AttentionCut kAttended = AttentionCut::kAttended;
  EXPECT_EQ(StageSpecName({.first_half = 0, .last_half = 1, .end = kProjected}), "qkv 0");
  EXPECT_EQ(StageSpecName({.first_half = 2, .last_half = 3, .begin = kProjected, .end = kAttended}),
            "attend 1");
  EXPECT_EQ(StageSpecName({.first_half = 2, .last_half = 5, .begin = kAttended, .end = kProjected}),
            "output+ffn+next qkv 1");
  EXPECT_EQ(StageSpecName({.first_half = 0, .last_half = 5, .begin = kAttended, .end = kProjected}),
            "output 0+ffn 0+layer 1+qkv 2");
  EXPECT_EQ(StageSpecName({.first_half = 4, .last_half = 6, .head = true, .begin = kAttended}),
            "output 2+ffn 2+head");
  EXPECT_EQ(StageSpecName({.embed = true}), "embed");
  EXPECT_EQ(StageSpecName({.first_half = 6, .last_half = 6, .head = true}), "head");
}

TEST(StageSpec, KnowsItsHalves) {
  EXPECT_FALSE((StageSpec{.first_half = 1, .last_half = 2}.HasAttention()));
  EXPECT_TRUE((StageSpec{.first_half = 1, .last_half = 3}.HasAttention()));
  EXPECT_TRUE((StageSpec{.first_half = 4, .last_half = 5}.HasAttention()));
  constexpr AttentionCut kProjected = AttentionCut::kProjected;
  constexpr AttentionCut kAttended = AttentionCut::kAttended;
  const StageSpec products{.first_half = 2, .last_half = 5, .begin = kAttended, .end = kProjected};
  EXPECT_FALSE(products.HasAttention());
  EXPECT_TRUE(products.HasAttentionHalf());
  EXPECT_TRUE(products.KeepsResidual());
  const StageSpec heads{.first_half = 2, .last_half = 3, .begin = kProjected, .end = kAttended};
  EXPECT_TRUE(heads.HasAttention());
  EXPECT_FALSE(heads.KeepsResidual());
  const ModelConfig config = Config();
  EXPECT_EQ(InputColumns(config, products), 32);
  EXPECT_EQ(OutputColumns(config, products), 64);
  EXPECT_EQ(InputColumns(config, heads), 64);
  EXPECT_EQ(OutputColumns(config, heads), 32);
  EXPECT_FALSE((StageSpec{.first_half = 4, .last_half = 5}.HasFeedForward()));
  EXPECT_TRUE((StageSpec{.first_half = 1, .last_half = 2}.HasFeedForward()));
  EXPECT_TRUE((StageSpec{.first_half = 2, .last_half = 4}.HasFeedForward()));
  EXPECT_FALSE((StageSpec{.embed = true, .head = true}.HasFeedForward()));
  EXPECT_FALSE((StageSpec{.embed = true}.HasAttention()));
}

TEST(ResidualLayout, SlotsAreWholePages) {
  const ResidualLayout layout = MakeResidualLayout(3, 10, 1152);
  EXPECT_EQ(layout.slot_bytes % PageSize(), 0u);
  EXPECT_GE(layout.slot_bytes, 10u * 1152 * 4);
  EXPECT_LT(layout.slot_bytes, 10u * 1152 * 4 + PageSize());
  EXPECT_EQ(layout.total_bytes(), 3 * layout.slot_bytes);
}

TEST(HandleKind, HasNames) {
  EXPECT_EQ(NameOf(HandleKind::kDmaBuf), "dma-buf");
  EXPECT_EQ(NameOf(HandleKind::kHostPointer), "host-pointer");
  EXPECT_EQ(NameOf(HandleKind::kInline), "inline");
}

TEST(ValidateKvCacheSpec, NamesWhatIsWrong) {
  const KvCacheSpec good{.layers = {0, 1}, .global_blocks = 2, .window_blocks = 3};
  EXPECT_TRUE(ValidateKvCacheSpec(Config(), good).ok());
  EXPECT_EQ(KvPlaneBytes(Config(), good, 0), 3u * 16 * 1 * 16 * 4);
  EXPECT_EQ(KvPlaneBytes(Config(), good, 1), 2u * 16 * 1 * 16 * 4);
  const auto expect_bad = [](const KvCacheSpec& spec, const std::string& part) {
    const absl::Status status = ValidateKvCacheSpec(Config(), spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  };
  expect_bad({.layers = {1, 0}, .global_blocks = 1, .window_blocks = 1}, "found 0 after 1");
  expect_bad({.layers = {3}, .global_blocks = 1, .window_blocks = 1}, "in [0, 3), found 3");
  expect_bad({.layers = {0}, .global_blocks = 1}, "one block for sliding-window layer 0, found 0");
  expect_bad({.layers = {1}, .window_blocks = 1}, "one block for global layer 1, found 0");
}

class FixedKvCache final : public KvCache {
 public:
  explicit FixedKvCache(const KvCacheSpec& spec) : spec_(spec) {}
  const KvCacheSpec& spec() const override { return spec_; }
  std::uint64_t bytes() const override { return 0; }
  absl::Status Export(const KvBlocks&, std::span<std::byte>) override {
    return absl::UnimplementedError("it holds nothing");
  }
  absl::Status Import(const KvBlocks&, std::span<const std::byte>) override {
    return absl::UnimplementedError("it holds nothing");
  }

 private:
  KvCacheSpec spec_;
};

class ValidateStepTest : public testing::Test {
 protected:
  absl::Status Validate() {
    sequence_.global_blocks = global_;
    sequence_.window_blocks = window_;
    sequence_.num_tokens = static_cast<std::int32_t>(tokens_.size());
    const Step step{7, tokens_, {&sequence_, 1}, rows_};
    FixedKvCache cache(kv_);
    ProgramSpec program;
    for (const StageSpec& spec : specs_) program.stages.push_back({spec});
    program.kv_cache = &cache;
    program.limits = kLimits;
    ModelConfig config = Config();
    config.bidirectional = encoder_;
    return ValidateStep(StepRulesOf(config, program), step);
  }
  void ExpectBad(const std::string& part) {
    const absl::Status status = Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    EXPECT_THAT(std::string(status.message()), HasSubstr("step 7"));
  }

  std::vector<StageSpec> specs_ = {{.embed = true, .first_half = 0, .last_half = 6, .head = true}};
  KvCacheSpec kv_{.layers = {0, 1, 2}, .global_blocks = 4, .window_blocks = 3};
  std::vector<std::int32_t> tokens_ = {1, 2, 3};
  std::vector<std::int32_t> rows_ = {2};
  std::vector<std::int32_t> global_ = {3, 0, 1, 2};
  std::vector<std::int32_t> window_ = {0, 1, 2};
  StepSequence sequence_;
  bool encoder_ = false;
};

TEST_F(ValidateStepTest, AcceptsAGoodStep) {
  EXPECT_TRUE(Validate().ok()) << Validate();
  // Positions 40 to 42 see keys from 21 on.
  sequence_.first_position = 40;
  window_ = {kNoBlock, 0, 1};
  EXPECT_TRUE(Validate().ok()) << Validate();
}

TEST_F(ValidateStepTest, WindowBlocksMayBeMissingOnlyWhereNoQuerySees) {
  window_ = {kNoBlock, 1, 2};
  // Sees keys from 15 on: the last of block 0.
  sequence_.first_position = 34;
  ExpectBad("window block table");
  sequence_.first_position = 35;
  EXPECT_TRUE(Validate().ok()) << Validate();
}

TEST_F(ValidateStepTest, AnEncodersSequencesBeginAtTheirBeginning) {
  encoder_ = true;
  EXPECT_TRUE(Validate().ok()) << Validate();
  sequence_.first_position = 1;
  ExpectBad("found one from position 1");
}

TEST_F(ValidateStepTest, NamesWhatIsWrong) {
  global_ = {3, 9, 1};
  sequence_.first_position = 15;
  ExpectBad("expected a block in [0, 4) at entry 1 of the global block table, found 9");
  global_ = {3};
  ExpectBad("expected at least 2 entries in the global block table, found 1");
}

TEST_F(ValidateStepTest, TokensMatterOnlyWhereTheyAreEmbedded) {
  tokens_[1] = -1;
  ExpectBad("token ids");
  specs_ = {{.first_half = 1, .last_half = 2}};
  EXPECT_TRUE(Validate().ok()) << Validate();
}

TEST_F(ValidateStepTest, TablesMatterOnlyWhereTheStageAttends) {
  global_.clear();
  ExpectBad("global block table");
  // A local layer alone.
  specs_ = {{.first_half = 0, .last_half = 2}};
  EXPECT_TRUE(Validate().ok()) << Validate();
  window_.clear();
  ExpectBad("window block table");
  specs_ = {{.first_half = 1, .last_half = 2}};
  EXPECT_TRUE(Validate().ok()) << Validate();
}

// A step is checked once for all stages of a program: for each what any of them needs.
TEST_F(ValidateStepTest, EveryStageOfTheProgramCounts) {
  specs_ = {{.first_half = 1, .last_half = 2}, {.first_half = 3, .last_half = 4}};
  global_.clear();
  window_.clear();
  tokens_[0] = -1;
  EXPECT_TRUE(Validate().ok()) << Validate();
  specs_.push_back({.first_half = 2, .last_half = 3});
  ExpectBad("global block table");
  specs_.back() = {.first_half = 4, .last_half = 5};
  ExpectBad("window block table");
  specs_.back() = {.embed = true};
  ExpectBad("token ids");
}

TEST_F(ValidateStepTest, HugePositionsDoNotOverflow) {
  sequence_.first_position = 2147483647;
  ExpectBad("positions");
}

}  // namespace
}  // namespace tandem
