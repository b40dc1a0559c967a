#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

// A split model, stage by stage, with several contexts; and what one prompt gives in one go.
struct World {
  ConformanceModel model;
  std::unique_ptr<ModelRunner> runner;
  double tolerance = 0;

  std::vector<float> Alone(Device* device, std::span<const std::int32_t> tokens) const {
    const auto whole = ModelRunner::Make(device, model.config, model.regions, {});
    EXPECT_TRUE(whole.ok()) << whole.status();
    if (!whole.ok()) return {};
    const auto logits = (*whole)->Prefill(0, tokens, 64);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? *logits : std::vector<float>();
  }
  void ExpectLogits(std::span<const float> expected, std::int32_t context,
                    const std::string& what) const {
    EXPECT_LE(Compare(expected, runner->program()->logits(context)).largest, tolerance) << what;
  }
};

void MakeWorld(const ConformanceTarget& target, Device* device, std::int32_t contexts,
               World* world) {
  auto model = MakeConformanceModel(ConformanceConfig(), target.formats.back());
  ASSERT_TRUE(model.ok()) << model.status();
  world->model = *std::move(model);
  world->tolerance = target.tolerances.batch;
  auto runner =
      ModelRunner::Make(device, world->model.config, world->model.regions,
                        {.stages = OneStagePerHalf(world->model.config), .contexts = contexts});
  ASSERT_TRUE(runner.ok()) << runner.status();
  world->runner = *std::move(runner);
}

// Puts the next `tokens` of a slot into a context.
void Begin(World* world, std::int32_t context, std::int32_t slot,
           std::span<const std::int32_t> tokens) {
  const RunnerShare share{slot, {tokens.begin(), tokens.end()}};
  const absl::Status begun =
      world->runner->program()->Begin(context, world->runner->Prepare({&share, 1}));
  ASSERT_TRUE(begun.ok()) << begun;
  world->runner->Commit();
}

// Every stage of every context, the contexts taking turns stage by stage with all of them under
// way at once: each context uses its own slot of the residuals.
void RunInterleaved(World* world, std::int32_t contexts) {
  Program* program = world->runner->program();
  for (std::int32_t stage = 0; stage < world->runner->stages(); ++stage) {
    Ticket last;
    for (std::int32_t c = 0; c < contexts; ++c) {
      const auto ticket = program->Submit(stage, c, c, c);
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      last = *ticket;
    }
    const absl::Status done = program->Wait(last, Deadline::Never());
    ASSERT_TRUE(done.ok()) << done;
  }
}

// Different sequences, begun in different contexts and interleaved, each give what they give
// alone: nothing of one is seen in another's inputs, scratch or logits.
void InterleavedEqualSeparate(const ConformanceTarget& target, Device* device) {
  for (const std::int32_t contexts : {2, 3}) {
    World world;
    ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, contexts, &world));
    std::vector<std::vector<std::int32_t>> tokens;
    for (std::int32_t c = 0; c < contexts; ++c) {
      // Other lengths, so that other buckets of commands are taken.
      tokens.push_back(RandomTokens(world.model.config, 40 - 17 * static_cast<std::size_t>(c),
                                    static_cast<std::uint32_t>(60 + c)));
      ASSERT_NO_FATAL_FAILURE(Begin(&world, c, c, tokens.back()));
    }
    ASSERT_NO_FATAL_FAILURE(RunInterleaved(&world, contexts));
    for (std::int32_t c = 0; c < contexts; ++c) {
      world.ExpectLogits(world.Alone(device, tokens[static_cast<std::size_t>(c)]), c,
                         "context " + std::to_string(c) + " of " + std::to_string(contexts));
    }
  }
}

// A step cut within a sequence into two contexts, run in order stage by stage, is the whole step.
void MicroBatchesEqualTheWhole(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, 2, &world));
  const auto tokens = RandomTokens(world.model.config, 40, 70);
  const std::vector<float> expected = world.Alone(device, tokens);
  const auto vocab = static_cast<std::size_t>(world.model.config.vocab_size);
  ASSERT_EQ(expected.size(), tokens.size() * vocab);
  for (const std::size_t cut : {1u, 7u, 20u, 39u}) {
    ASSERT_NO_FATAL_FAILURE(Begin(&world, 0, 0, std::span(tokens).first(cut)));
    ASSERT_NO_FATAL_FAILURE(Begin(&world, 1, 0, std::span(tokens).subspan(cut)));
    ASSERT_NO_FATAL_FAILURE(RunInterleaved(&world, 2));
    const std::string what = "cut at " + std::to_string(cut);
    world.ExpectLogits(std::span(expected).first(cut * vocab), 0, what);
    world.ExpectLogits(std::span(expected).subspan(cut * vocab), 1, what);
    world.runner->End(0);
  }
}

// All stages of a context may be submitted one behind another, as many as may be under way.
void StagesOfOneContextInARow(const ConformanceTarget& target, Device* device) {
  World world;
  const auto stages = static_cast<std::int32_t>(OneStagePerHalf(ConformanceConfig()).size());
  ASSERT_LE(stages, kMaxContexts);
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, stages, &world));
  Program* program = world.runner->program();
  const auto tokens = RandomTokens(world.model.config, 23, 71);
  const std::vector<float> expected = world.Alone(device, tokens);
  const std::int32_t context = stages - 1;
  ASSERT_NO_FATAL_FAILURE(Begin(&world, context, 2, tokens));
  Ticket last;
  for (std::int32_t stage = 0; stage < stages; ++stage) {
    const auto ticket = program->Submit(stage, context, 1, 1);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    last = *ticket;
  }
  const absl::Status done = program->Wait(last, Deadline::Never());
  ASSERT_TRUE(done.ok()) << done;
  world.ExpectLogits(expected, context, "all stages in a row");
}

// Logits stay until their own context begins again, whatever other contexts do.
void LogitsOfContextsAreIndependent(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, 2, &world));
  Program* program = world.runner->program();
  const auto first = RandomTokens(world.model.config, 5, 72);
  const auto second = RandomTokens(world.model.config, 9, 73);
  ASSERT_NO_FATAL_FAILURE(Begin(&world, 0, 0, first));
  EXPECT_TRUE(program->logits(0).empty()) << "nothing has run";
  for (std::int32_t stage = 0; stage < world.runner->stages(); ++stage) {
    EXPECT_TRUE(program->logits(0).empty()) << "before stage " << stage;
    ASSERT_TRUE(world.runner->RunStage(stage, 0).ok());
  }
  const std::vector<float> kept(program->logits(0).begin(), program->logits(0).end());
  world.ExpectLogits(world.Alone(device, first), 0, "the first step");
  ASSERT_NO_FATAL_FAILURE(Begin(&world, 1, 1, second));
  for (std::int32_t stage = 0; stage < world.runner->stages(); ++stage) {
    ASSERT_TRUE(world.runner->RunStage(stage, 1).ok());
  }
  world.ExpectLogits(world.Alone(device, second), 1, "the second step");
  const auto now = program->logits(0);
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), now.begin(), now.end()));
  ASSERT_NO_FATAL_FAILURE(Begin(&world, 0, 2, first));
  EXPECT_TRUE(program->logits(0).empty());
  world.ExpectLogits(world.Alone(device, second), 1, "after the first context began again");
}

// The embedding of one context runs between two stages of another: what a stage leaves in the
// shared scratch is nobody's input.
void SharedScratchCarriesNothing(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, 2, &world));
  const auto tokens = RandomTokens(world.model.config, 21, 74);
  const std::vector<float> expected = world.Alone(device, tokens);
  ASSERT_NO_FATAL_FAILURE(Begin(&world, 0, 0, tokens));
  for (std::int32_t stage = 0; stage < world.runner->stages(); ++stage) {
    // Larger, so that every row of the scratch is written.
    ASSERT_NO_FATAL_FAILURE(Begin(
        &world, 1, 1, RandomTokens(world.model.config, 30, 75 + static_cast<unsigned>(stage))));
    for (std::int32_t other = 0; other < world.runner->stages(); ++other) {
      ASSERT_TRUE(world.runner->RunStage(other, 1, 1, 1).ok());
    }
    world.runner->End(1);
    ASSERT_TRUE(world.runner->RunStage(stage, 0).ok());
  }
  world.ExpectLogits(expected, 0, "with another step between all stages");
}

}  // namespace

std::vector<ConformanceCase> ContextCases() {
  return {{"InterleavedEqualSeparate", InterleavedEqualSeparate},
          {"MicroBatchesEqualTheWhole", MicroBatchesEqualTheWhole},
          {"StagesOfOneContextInARow", StagesOfOneContextInARow},
          {"LogitsOfContextsAreIndependent", LogitsOfContextsAreIndependent},
          {"SharedScratchCarriesNothing", SharedScratchCarriesNothing}};
}

}  // namespace tandem
