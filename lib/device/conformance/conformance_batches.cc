#include <numeric>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

// One sequence alone, in one stage, is what every other way of running it is compared with.
class BatchWorld {
 public:
  BatchWorld(const ConformanceTarget& target, Device* device, WeightFormat format,
             ActivationType activations)
      : tolerance_(target.tolerances.batch), device_(device), activations_(activations) {
    auto model = MakeConformanceModel(ConformanceConfig(), format);
    EXPECT_TRUE(model.ok()) << model.status();
    if (model.ok()) model_ = *std::move(model);
  }

  const ModelConfig& config() const { return model_.config; }

  std::unique_ptr<ModelRunner> Runner(RunnerOptions options = {}) {
    options.activations = activations_;
    auto runner = ModelRunner::Make(device_, model_.config, model_.regions, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }

  std::vector<float> Alone(std::span<const std::int32_t> tokens) {
    const auto runner = Runner();
    if (runner == nullptr) return {};
    const auto logits = runner->Prefill(0, tokens, 64);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? *logits : std::vector<float>();
  }

  void ExpectSame(std::span<const float> expected, const absl::StatusOr<std::vector<float>>& found,
                  const std::string& what) {
    ASSERT_TRUE(found.ok()) << what << ": " << found.status();
    EXPECT_LE(Compare(expected, *found).largest, tolerance_) << what;
  }

 private:
  double tolerance_;
  Device* device_;
  ActivationType activations_;
  ConformanceModel model_;
};

void AnyChunks(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 45, 1);
  const auto expected = world->Alone(tokens);
  const auto runner = world->Runner();
  ASSERT_NE(runner, nullptr);
  for (const std::int32_t chunk : {1, 2, 3, 5, 7, 16, 17, 33, 45}) {
    world->ExpectSame(expected, runner->Prefill(0, tokens, chunk),
                      "chunks of " + std::to_string(chunk));
    runner->End(0);
  }
}

void AnyBlocks(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 45, 2);
  const auto expected = world->Alone(tokens);
  for (const std::uint32_t seed : {17u, 18u, 19u}) {
    const auto runner = world->Runner({.block_seed = seed});
    ASSERT_NE(runner, nullptr);
    // Another sequence first: its keys lie in blocks that come free and are given out again.
    const auto other = runner->Prefill(1, RandomTokens(world->config(), 40, seed), 13);
    ASSERT_TRUE(other.ok()) << other.status();
    runner->End(1);
    world->ExpectSame(expected, runner->Prefill(2, tokens, 11),
                      "blocks of seed " + std::to_string(seed));
  }
}

// Decodes far past the window while another sequence takes the blocks that were left.
void WindowBlocksLeft(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 100, 3);
  const auto expected = world->Alone(tokens);
  const auto runner = world->Runner();
  ASSERT_NE(runner, nullptr);
  auto found = runner->Prefill(0, std::span(tokens).first(30), 30);
  ASSERT_TRUE(found.ok()) << found.status();
  const auto vocab = static_cast<std::size_t>(world->config().vocab_size);
  bool left_some = false;
  for (std::size_t i = 30; i < tokens.size(); ++i) {
    const RunnerShare shares[] = {{0, {tokens[i]}}, {3, {tokens[i % 7]}}};
    left_some = left_some || runner->Prepare(shares).sequences[0].window_blocks[0] == kNoBlock;
    const auto logits = runner->Step(shares);
    ASSERT_TRUE(logits.ok()) << logits.status();
    found->insert(found->end(), logits->begin(),
                  logits->begin() + static_cast<std::ptrdiff_t>(vocab));
  }
  EXPECT_TRUE(left_some);
  world->ExpectSame(expected, found, "decoding past the window");
}

// Three sequences in every mixture of prefill and decode, in any order of slots.
void AnyBatch(BatchWorld* world) {
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::vector<float>> expected;
  std::vector<std::vector<float>> found(3);
  for (std::uint32_t s = 0; s < 3; ++s) {
    tokens.push_back(RandomTokens(world->config(), 33 + s, 30 + s));
    expected.push_back(world->Alone(tokens.back()));
  }
  const auto runner = world->Runner();
  ASSERT_NE(runner, nullptr);
  // Tokens of sequences 0, 1 and 2 in each step, and the order in which they stand.
  const struct {
    std::vector<std::size_t> counts;
    std::vector<std::size_t> order;
  } plan[] = {{{5, 0, 0}, {0}},        {{1, 20, 0}, {1, 0}},   {{1, 1, 17}, {2, 0, 1}},
              {{20, 1, 1}, {0, 1, 2}}, {{1, 1, 1}, {2, 1, 0}}, {{1, 9, 1}, {1, 2, 0}},
              {{0, 1, 13}, {2, 1}},    {{4, 1, 1}, {1, 0, 2}}, {{0, 0, 1}, {2}}};
  const std::int32_t slots[] = {3, 0, 2};
  const auto vocab = static_cast<std::size_t>(world->config().vocab_size);
  std::vector<std::size_t> at(3, 0);
  for (const auto& step : plan) {
    std::vector<RunnerShare> shares;
    for (const std::size_t s : step.order) {
      const auto begin = tokens[s].begin() + static_cast<std::ptrdiff_t>(at[s]);
      shares.push_back({slots[s], {begin, begin + static_cast<std::ptrdiff_t>(step.counts[s])}});
      at[s] += step.counts[s];
    }
    const auto logits = runner->Step(shares);
    ASSERT_TRUE(logits.ok()) << logits.status();
    auto row = logits->begin();
    for (const std::size_t s : step.order) {
      const auto size = static_cast<std::ptrdiff_t>(step.counts[s] * vocab);
      found[s].insert(found[s].end(), row, row + size);
      row += size;
    }
  }
  for (std::size_t s = 0; s < 3; ++s) {
    ASSERT_EQ(at[s], tokens[s].size()) << "the plan above does not cover sequence " << s;
    world->ExpectSame(expected[s], found[s], "sequence " + std::to_string(s));
  }
}

void SplitStages(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 30, 4);
  const auto expected = world->Alone(tokens);
  const std::int32_t halves = 2 * world->config().num_layers;
  for (std::int32_t cut = 0; cut <= halves; ++cut) {
    const auto runner = world->Runner(
        {.stages = {{.embed = true, .first_half = 0, .last_half = cut, .head = false},
                    {.embed = false, .first_half = cut, .last_half = halves, .head = true}}});
    ASSERT_NE(runner, nullptr);
    world->ExpectSame(expected, runner->Prefill(1, tokens, 9),
                      "cut at half layer " + std::to_string(cut));
  }
  const auto runner = world->Runner({.stages = OneStagePerHalf(world->config())});
  ASSERT_NE(runner, nullptr);
  world->ExpectSame(expected, runner->Prefill(1, tokens, 9), "a stage for each half layer");
}

// Two routes through one program, over one cache and one set of contexts: what the one has begun
// the other goes on with, and back again.
void RoutesOfOneProgram(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 40, 13);
  const auto expected = world->Alone(tokens);
  std::vector<StageSpec> specs = {
      {.embed = true, .first_half = 0, .last_half = 2 * world->config().num_layers, .head = true}};
  const std::vector<StageSpec> pieces = OneStagePerHalf(world->config());
  specs.insert(specs.end(), pieces.begin(), pieces.end());
  const auto runner = world->Runner({.stages = specs});
  ASSERT_NE(runner, nullptr);
  std::vector<float> found;
  auto next = tokens.begin();
  bool whole = false;
  for (const std::int32_t count : {18, 1, 12, 1, 1, 7}) {
    const RunnerShare share{0, {next, next + count}};
    next += count;
    const std::int32_t context = whole ? 1 : 0;
    const absl::Status begun = runner->program()->Begin(context, runner->Prepare({&share, 1}));
    ASSERT_TRUE(begun.ok()) << begun;
    const std::int32_t end = whole ? 1 : runner->stages();
    for (std::int32_t stage = whole ? 0 : 1; stage < end; ++stage) {
      const absl::Status done = runner->RunStage(stage, context);
      ASSERT_TRUE(done.ok()) << done;
    }
    runner->Commit();
    const std::span<const float> logits = runner->program()->logits(context);
    found.insert(found.end(), logits.begin(), logits.end());
    whole = !whole;
  }
  ASSERT_EQ(next, tokens.end());
  world->ExpectSame(expected, found, "two routes in turn");
}

void Resubmission(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 24, 5);
  const auto runner = world->Runner({.stages = OneStagePerHalf(world->config())});
  ASSERT_NE(runner, nullptr);
  const auto prefix = runner->Prefill(0, std::span(tokens).first(10), 10);
  ASSERT_TRUE(prefix.ok()) << prefix.status();
  const RunnerShare share{0, {tokens.begin() + 10, tokens.end()}};
  const auto first = runner->Step({&share, 1});
  ASSERT_TRUE(first.ok()) << first.status();
  for (int i = 0; i < 3; ++i) {
    runner->Rewind(0, static_cast<std::int32_t>(share.tokens.size()));
    const auto again = runner->Step({&share, 1});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*first, *again) << "the same step gave other bits";
  }
}

// A layer looks at the block table of its own kind alone: the other one holds one and the same
// block everywhere.
void TablesAreNotMixedUp(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 40, 12);
  const auto expected = world->Alone(tokens);
  const std::vector<StageSpec> specs = OneStagePerHalf(world->config());
  const auto runner = world->Runner({.stages = specs});
  ASSERT_NE(runner, nullptr);
  const std::vector<std::int32_t> same(16, 0);
  std::vector<float> found;
  for (std::size_t begin = 0; begin < tokens.size(); begin += 20) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
    const RunnerShare share{0, {first, first + 20}};
    for (std::size_t i = 0; i < specs.size(); ++i) {
      Step step = runner->Prepare({&share, 1});
      StepSequence sequence = step.sequences[0];
      const auto layer = static_cast<std::size_t>(specs[i].first_half / 2);
      if (specs[i].HasAttention()) {
        (world->config().layer_is_global[layer] ? sequence.window_blocks : sequence.global_blocks) =
            same;
      }
      step.sequences = {&sequence, 1};
      const absl::Status begun = runner->program()->Begin(0, step);
      ASSERT_TRUE(begun.ok()) << begun;
      const absl::Status done = runner->RunStage(static_cast<std::int32_t>(i), 0);
      ASSERT_TRUE(done.ok()) << done;
    }
    runner->Commit();
    const std::span<const float> logits = runner->program()->logits(0);
    found.insert(found.end(), logits.begin(), logits.end());
  }
  world->ExpectSame(expected, found, "tables of the other kind");
}

// Only the rows that were asked for are computed, in their order.
void LogitRows(BatchWorld* world) {
  const auto tokens = RandomTokens(world->config(), 12, 6);
  const auto expected = world->Alone(tokens);
  const auto vocab = static_cast<std::size_t>(world->config().vocab_size);
  const auto runner = world->Runner();
  ASSERT_NE(runner, nullptr);
  const RunnerShare share{0, tokens};
  for (const std::vector<std::int32_t>& rows : {std::vector<std::int32_t>{11}, {0, 5, 6, 11}, {}}) {
    Step step = runner->Prepare({&share, 1});
    step.logit_rows = rows;
    const absl::Status done = runner->RunAll(step, 0, 0);
    ASSERT_TRUE(done.ok()) << done;
    const std::span<const float> found = runner->program()->logits(0);
    ASSERT_EQ(found.size(), rows.size() * vocab);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto row =
          std::span(expected).subspan(static_cast<std::size_t>(rows[i]) * vocab, vocab);
      world->ExpectSame(
          row,
          std::vector<float>(found.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                             found.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab)),
          "row " + std::to_string(rows[i]));
    }
  }
}

}  // namespace

std::vector<ConformanceCase> BatchCases(const ConformanceTarget& target) {
  const std::pair<const char*, void (*)(BatchWorld*)> tests[] = {
      {"AnyChunks", AnyChunks},
      {"AnyBlocks", AnyBlocks},
      {"WindowBlocksLeft", WindowBlocksLeft},
      {"AnyBatch", AnyBatch},
      {"SplitStages", SplitStages},
      {"RoutesOfOneProgram", RoutesOfOneProgram},
      {"Resubmission", Resubmission},
      {"TablesAreNotMixedUp", TablesAreNotMixedUp},
      {"LogitRows", LogitRows}};
  std::vector<ConformanceCase> cases;
  for (const WeightFormat format : target.formats) {
    for (const ActivationType activations : {ActivationType::kFloat32, ActivationType::kInt8}) {
      const bool int8 = activations == ActivationType::kInt8;
      if (int8 && (!target.int8_activations || format == WeightFormat::kBf16)) continue;
      for (const auto& [name, run] : tests) {
        cases.push_back(
            {std::string(name) + "_" + VariantName(format, activations, KvType::kFloat32),
             [run = run, format, activations](const ConformanceTarget& t, Device* device) {
               BatchWorld world(t, device, format, activations);
               if (!testing::Test::HasFailure()) run(&world);
             }});
      }
    }
  }
  return cases;
}

}  // namespace tandem
