#include <thread>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

// A runner in one stage, and the answer of one prompt before anything was done to it.
struct World {
  ConformanceModel model;
  std::unique_ptr<ModelRunner> runner;
  std::vector<std::int32_t> tokens;
  std::vector<float> expected;

  // Whether the stage still gives the answer it gave at first.
  void ExpectUsable(const ConformanceTarget& target) {
    runner->End(0);
    const auto found = runner->Prefill(0, tokens, 40);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_LE(Compare(expected, *found).largest, target.tolerances.batch);
    runner->End(0);
  }
};

void MakeWorld(const ConformanceTarget& target, Device* device, World* world) {
  auto model = MakeConformanceModel(ConformanceConfig(), target.formats.front());
  ASSERT_TRUE(model.ok()) << model.status();
  world->model = *std::move(model);
  auto runner = ModelRunner::Make(device, world->model.config, world->model.regions, {});
  ASSERT_TRUE(runner.ok()) << runner.status();
  world->runner = *std::move(runner);
  world->tokens = RandomTokens(world->model.config, 40, 11);
  auto expected = world->runner->Prefill(0, world->tokens, 40);
  ASSERT_TRUE(expected.ok()) << expected.status();
  world->expected = *std::move(expected);
  world->runner->End(0);
}

void DescribesItself(const ConformanceTarget&, Device* device) {
  EXPECT_FALSE(device->info().kind.empty());
  EXPECT_FALSE(device->info().name.empty());
  EXPECT_FALSE(device->info().driver.empty());
  EXPECT_GT(device->info().memory_bytes, 0u);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(device->Probe().ok()) << device->Probe();
}

void ExpectRefused(World* world, const std::string& what, const Step& step) {
  const auto ticket = world->runner->stage(0)->Submit(step, 0, 0);
  ASSERT_FALSE(ticket.ok()) << what;
  EXPECT_EQ(ticket.status().code(), absl::StatusCode::kInvalidArgument)
      << what << ": " << ticket.status();
  EXPECT_FALSE(ticket.status().message().empty()) << what;
}

void BadStepsAreRefused(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  const auto with = [&world](const std::string& what, auto change) {
    const RunnerShare shares[] = {{0, {1, 2, 3}}, {1, {4, 5}}};
    Step step = world.runner->Prepare(shares);
    std::vector<std::int32_t> tokens(step.tokens.begin(), step.tokens.end());
    std::vector<StepSequence> sequences(step.sequences.begin(), step.sequences.end());
    std::vector<std::int32_t> rows(step.logit_rows.begin(), step.logit_rows.end());
    std::vector<std::int32_t> blocks(sequences[0].global_blocks.begin(),
                                     sequences[0].global_blocks.end());
    change(tokens, sequences, rows, blocks);
    step = {step.id, tokens, sequences, rows};
    ExpectRefused(&world, what, step);
  };
  const std::int32_t vocab = world.model.config.vocab_size;
  with("no tokens", [](auto& tokens, auto& sequences, auto& rows, auto&) {
    tokens.clear(), sequences.clear(), rows.clear();
  });
  with("a token past the vocabulary",
       [&](auto& tokens, auto&, auto&, auto&) { tokens[1] = vocab; });
  with("a negative token", [](auto& tokens, auto&, auto&, auto&) { tokens[0] = -1; });
  with("a token that no sequence has",
       [](auto& tokens, auto&, auto&, auto&) { tokens.push_back(1); });
  with("a gap between sequences",
       [](auto&, auto& sequences, auto&, auto&) { sequences[1].first_token = 4; });
  with("an empty sequence",
       [](auto&, auto& sequences, auto&, auto&) { sequences[1].num_tokens = 0; });
  with("a slot twice",
       [](auto&, auto& sequences, auto&, auto&) { sequences[1].slot = sequences[0].slot; });
  with("a slot past the limit",
       [](auto&, auto& sequences, auto&, auto&) { sequences[0].slot = 4; });
  with("a negative position",
       [](auto&, auto& sequences, auto&, auto&) { sequences[0].first_position = -1; });
  with("a position past the limit",
       [](auto&, auto& sequences, auto&, auto&) { sequences[0].first_position = 254; });
  with("a block table that is too short",
       [](auto&, auto& sequences, auto&, auto&) { sequences[0].first_position = 14; });
  with("a block that is not there", [](auto&, auto& sequences, auto&, auto& blocks) {
    blocks[0] = 1 << 20;
    sequences[0].global_blocks = blocks;
  });
  with("a global block that was left", [](auto&, auto& sequences, auto&, auto& blocks) {
    blocks[0] = kNoBlock;
    sequences[0].global_blocks = blocks;
  });
  with("a window block that a query sees", [](auto&, auto& sequences, auto&, auto& blocks) {
    blocks[0] = kNoBlock;
    sequences[0].window_blocks = blocks;
  });
  with("logit rows out of order", [](auto&, auto&, auto& rows, auto&) { rows = {2, 1}; });
  with("a logit row past the tokens", [](auto&, auto&, auto& rows, auto&) { rows = {5}; });
  with("too many tokens", [](auto& tokens, auto& sequences, auto&, auto&) {
    tokens.assign(65, 1);
    sequences.resize(1);
    sequences[0].num_tokens = 65;
  });
  with("too many sequences", [](auto& tokens, auto& sequences, auto&, auto&) {
    tokens.assign(5, 1);
    const StepSequence first = sequences[0];
    sequences.assign(5, first);
    for (std::int32_t i = 0; i < 5; ++i) {
      sequences[static_cast<std::size_t>(i)].first_token = i;
      sequences[static_cast<std::size_t>(i)].num_tokens = 1;
      sequences[static_cast<std::size_t>(i)].slot = i;
    }
  });
  world.ExpectUsable(target);
}

void OneStepInFlight(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  const RunnerShare share{0, world.tokens};
  Stage* stage = world.runner->stage(0);
  const Step& step = world.runner->Prepare({&share, 1});
  const auto first = stage->Submit(step, 0, 0);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = stage->Submit(step, 0, 0);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition) << second.status();
  // A deadline in the past: done by now, or late and still running.
  const absl::Status late = stage->Wait(*first, absl::InfinitePast());
  EXPECT_TRUE(late.ok() || absl::IsDeadlineExceeded(late)) << late;
  if (!late.ok()) {
    EXPECT_TRUE(stage->Wait(*first, absl::InfiniteFuture()).ok());
  }
  const auto third = stage->Submit(step, 0, 0);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(third->value, first->value + 1);
  EXPECT_TRUE(stage->Wait(*third, absl::InfiniteFuture()).ok());
  world.ExpectUsable(target);
}

// Whenever Cancel comes, the step ends, and the stage works on.
void Cancellation(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  Stage* stage = world.runner->stage(0);
  const RunnerShare share{0, world.tokens};
  stage->Cancel();  // nothing runs: nothing happens
  world.ExpectUsable(target);
  for (int i = 0; i < 20; ++i) {
    const Step& step = world.runner->Prepare({&share, 1});
    const auto ticket = stage->Submit(step, 0, 0);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    std::thread canceller([stage] { stage->Cancel(); });
    const absl::Status done = stage->Wait(*ticket, absl::InfiniteFuture());
    canceller.join();
    EXPECT_TRUE(done.ok() || absl::IsCancelled(done)) << done;
    if (i % 5 == 0) world.ExpectUsable(target);
  }
  world.ExpectUsable(target);
}

// After each size of step has been run once, nothing is allocated, written to descriptors or
// recorded any more.
void SteadyState(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  const auto all_sizes = [&world] {
    for (const std::int32_t chunk : {1, 2, 3, 8, 17, 40}) {
      const auto done = world.runner->Prefill(1, world.tokens, chunk);
      ASSERT_TRUE(done.ok()) << done.status();
      world.runner->End(1);
    }
  };
  ASSERT_NO_FATAL_FAILURE(all_sizes());
  const DeviceCounters before = device->counters();
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(all_sizes());
  const DeviceCounters after = device->counters();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.descriptor_writes, before.descriptor_writes);
  EXPECT_EQ(after.command_recordings, before.command_recordings);
  EXPECT_GT(after.submissions, before.submissions);
}

void ExpectCompileRefused(Device* device, const ModelConfig& config, const std::string& what,
                          const StageSpec& spec, const StageBindings& bindings) {
  const auto stage = device->Compile(config, spec, bindings, {});
  ASSERT_FALSE(stage.ok()) << what;
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kInvalidArgument)
      << what << ": " << stage.status();
}

void BadStagesAreRefused(const ConformanceTarget& target, Device* device) {
  const auto model = MakeConformanceModel(ConformanceConfig(), target.formats.front());
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  const std::int32_t halves = 2 * config.num_layers;
  StageBindings whole;
  for (const auto& region : model->regions) {
    auto weights = device->Import(region, config);
    ASSERT_TRUE(weights.ok()) << weights.status();
    whole.weights.push_back(*std::move(weights));
  }
  const auto cache =
      device->CreateKvCache(config, {.layers = {0}, .global_blocks = 4, .window_blocks = 4});
  ASSERT_TRUE(cache.ok()) << cache.status();
  const auto small = device->CreateResidual(MakeResidualLayout(1, 8, config.hidden_size));
  ASSERT_TRUE(small.ok()) << small.status();
  const StageSpec all{.embed = true, .first_half = 0, .last_half = halves, .head = true};
  ExpectCompileRefused(device, config, "no KV cache", all, whole);
  StageBindings bindings = whole;
  bindings.kv_cache = cache->get();
  ExpectCompileRefused(device, config, "a KV cache without layer 1", all, bindings);
  bindings.weights.clear();
  ExpectCompileRefused(device, config, "no weights",
                       {.embed = true, .first_half = 0, .last_half = 1}, bindings);
  ExpectCompileRefused(device, config, "no output", {.embed = true}, whole);
  bindings = whole;
  bindings.output = small->get();
  ExpectCompileRefused(device, config, "an output for fewer tokens", {.embed = true}, bindings);
  ExpectCompileRefused(device, config, "embedding in the middle",
                       {.embed = true, .first_half = 1, .last_half = 2}, bindings);
  ExpectCompileRefused(device, config, "a head in the middle",
                       {.first_half = 0, .last_half = 1, .head = true}, whole);
  ExpectCompileRefused(device, config, "half layers that are not there",
                       {.first_half = 1, .last_half = halves + 1}, whole);
  ExpectCompileRefused(device, config, "nothing to do", {.first_half = 1, .last_half = 1}, whole);
}

}  // namespace

std::vector<ConformanceCase> ContractCases() {
  return {{"DescribesItselfAndProbes", DescribesItself},
          {"BadStepsAreRefused", BadStepsAreRefused},
          {"OneStepInFlight", OneStepInFlight},
          {"Cancellation", Cancellation},
          {"SteadyState", SteadyState},
          {"BadStagesAreRefused", BadStagesAreRefused}};
}

}  // namespace tandem
