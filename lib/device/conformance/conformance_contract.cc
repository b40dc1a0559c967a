#include <algorithm>
#include <cmath>
#include <thread>
#include <tuple>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

// A runner, and the answer of one prompt before anything was done to it.
struct World {
  ConformanceModel model;
  std::unique_ptr<ModelRunner> runner;
  std::vector<std::int32_t> tokens;
  std::vector<float> expected;

  // Whether the program still gives the answer it gave at first.
  void ExpectUsable(const ConformanceTarget& target) {
    runner->End(0);
    const auto found = runner->Prefill(0, tokens, 40);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_LE(Compare(expected, *found).largest, target.tolerances.batch);
    runner->End(0);
  }
};

void MakeWorld(const ConformanceTarget& target, Device* device, World* world,
               const RunnerOptions& options = {}) {
  auto model = MakeConformanceModel(ConformanceConfig(), target.formats.front());
  ASSERT_TRUE(model.ok()) << model.status();
  world->model = *std::move(model);
  auto runner = ModelRunner::Make(device, world->model.config, world->model.regions, options);
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

// Where a device tells candidates they are those of its logits.
void CandidatesAreOfTheLogits(const ConformanceTarget& target, Device* device) {
  World world;
  MakeWorld(target, device, &world);
  const RunnerShare share{0, world.tokens};
  Step step = world.runner->Prepare({&share, 1});
  const std::vector<float> temperatures(step.logit_rows.size(), 0.25f);
  step.inverse_temperatures = temperatures;
  ASSERT_TRUE(world.runner->RunAll(step, 0, 0).ok());
  Program* program = world.runner->program();
  const std::span<const float> logits = program->logits(0);
  const std::size_t vocab = logits.size() / step.logit_rows.size();
  for (std::size_t row = 0; row < step.logit_rows.size(); ++row) {
    CandidateMemory memory;
    const auto found = program->candidates(0, static_cast<std::int32_t>(row), &memory);
    if (!found.has_value()) continue;
    const auto of_row = logits.subspan(row * vocab, vocab);
    double sum = 0;
    double scaled = 0;
    for (const float logit : of_row) {
      const auto below = static_cast<double>(logit - found->best.front().logit);
      ASSERT_LE(below, 0);
      sum += std::exp(below);
      scaled += std::exp(below * 0.25);
    }
    EXPECT_NEAR(found->sum, sum, 1e-4 * sum);
    EXPECT_NEAR(found->scaled_sum, scaled, 1e-4 * scaled);
    for (std::size_t i = 0; i < found->best.size(); ++i) {
      const LogitCandidate& candidate = found->best[i];
      EXPECT_EQ(candidate.logit, of_row[static_cast<std::size_t>(candidate.token)]);
      EXPECT_LE(candidate.logit, found->best[i > 0 ? i - 1 : 0].logit);
    }
    EXPECT_EQ(std::count_if(of_row.begin(), of_row.end(),
                            [&](float logit) { return logit > found->best.back().logit; }),
              std::count_if(found->best.begin(), found->best.end(), [&](const auto& candidate) {
                return candidate.logit > found->best.back().logit;
              }));
  }
  CandidateMemory memory;
  const auto rows = static_cast<std::int32_t>(step.logit_rows.size());
  EXPECT_FALSE(program->candidates(0, rows, &memory).has_value()) << "no such row";
}

void ExpectRefused(World* world, const std::string& what, const Step& step) {
  Program* program = world->runner->program();
  const absl::Status begun = program->Begin(0, step);
  EXPECT_EQ(begun.code(), absl::StatusCode::kInvalidArgument) << what << ": " << begun;
  EXPECT_FALSE(begun.message().empty()) << what;
  EXPECT_EQ(program->Submit(0, 0, 0, 0).status().code(), absl::StatusCode::kFailedPrecondition)
      << what << ": the context must be empty";
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

// What Begin, Submit and Wait refuse, and that nothing has happened then.
void CallsOutOfOrder(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world, {.contexts = 2}));
  Program* program = world.runner->program();
  ASSERT_EQ(program->contexts(), 2);
  const RunnerShare share{0, world.tokens};
  const Step& step = world.runner->Prepare({&share, 1});
  for (const std::int32_t context : {-1, 2}) {
    EXPECT_EQ(program->Begin(context, step).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(program->Submit(0, context, 0, 0).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(program->logits(context).empty());
  }
  ASSERT_TRUE(program->Begin(0, step).ok());
  for (const std::int32_t stage : {-1, 1}) {
    EXPECT_EQ(program->Submit(stage, 0, 0, 0).status().code(), absl::StatusCode::kInvalidArgument);
  }
  const auto first = program->Submit(0, 0, 0, 0);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(program->Begin(0, step).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(program->Begin(1, step).ok());
  const auto second = program->Submit(0, 1, 0, 0);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->value, first->value + 1);
  EXPECT_EQ(program->Submit(0, 1, 0, 0).status().code(), absl::StatusCode::kResourceExhausted);
  // A deadline in the past: done by now, or late and still running.
  const absl::Status late = program->Wait(*first, Deadline::After(-absl::Seconds(1)));
  EXPECT_TRUE(late.ok() || absl::IsDeadlineExceeded(late)) << late;
  EXPECT_EQ(program->Wait({second->value + 1}, Deadline::Never()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(program->Wait({0}, Deadline::Never()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(program->Wait(*second, Deadline::Never()).ok());
  EXPECT_TRUE(program->Wait(*first, Deadline::Never()).ok()) << "its answer is kept";
  EXPECT_TRUE(program->Begin(0, step).ok());
  const auto third = program->Submit(0, 0, 0, 0);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(program->Wait(*first, Deadline::Never()).code(), absl::StatusCode::kInvalidArgument)
      << "its answer is forgotten";
  EXPECT_TRUE(program->Wait(*third, Deadline::Never()).ok());
  world.ExpectUsable(target);
}

void SlotsOutOfRange(const ConformanceTarget& target, Device* device) {
  World world;
  const std::vector<StageSpec> stages = OneStagePerHalf(ConformanceConfig());
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world, {.stages = stages}));
  Program* program = world.runner->program();
  const RunnerShare share{0, {1, 2, 3}};
  ASSERT_TRUE(program->Begin(0, world.runner->Prepare({&share, 1})).ok());
  const std::int32_t slots = world.runner->residual(0)->layout().slots;
  for (const std::int32_t bad : {-1, slots}) {
    EXPECT_EQ(program->Submit(1, 0, bad, 0).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(program->Submit(1, 0, 0, bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
  // The embedding has no input, the head no output: their slots do not matter.
  for (const auto& [stage, input, output] :
       {std::tuple(0, 99, 0), std::tuple(world.runner->stages() - 1, 0, -7)}) {
    const absl::Status done = world.runner->RunStage(stage, 0, input, output);
    EXPECT_TRUE(done.ok()) << done;
  }
  world.ExpectUsable(target);
}

// Whenever Cancel comes, the step ends, and the program works on.
void Cancellation(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  Program* program = world.runner->program();
  const RunnerShare share{0, world.tokens};
  // Nothing runs: nothing happens.
  program->Cancel();
  world.ExpectUsable(target);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(program->Begin(0, world.runner->Prepare({&share, 1})).ok());
    const auto ticket = program->Submit(0, 0, 0, 0);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    std::thread canceller([program] { program->Cancel(); });
    const absl::Status done = program->Wait(*ticket, Deadline::Never());
    canceller.join();
    EXPECT_TRUE(done.ok() || absl::IsCancelled(done)) << done;
    EXPECT_EQ(program->logits(0).empty(), !done.ok());
    if (i % 5 == 0) world.ExpectUsable(target);
  }
  world.ExpectUsable(target);
}

// Cancel meets several submissions of several contexts: each ends, and what is submitted after
// it runs.
void CancellationOfSeveral(const ConformanceTarget& target, Device* device) {
  World world;
  constexpr std::int32_t kContexts = 4;
  const std::vector<StageSpec> stages = OneStagePerHalf(ConformanceConfig());
  ASSERT_NO_FATAL_FAILURE(
      MakeWorld(target, device, &world, {.stages = stages, .contexts = kContexts}));
  Program* program = world.runner->program();
  const RunnerShare share{0, world.tokens};
  for (int round = 0; round < 8; ++round) {
    std::vector<Ticket> tickets;
    for (std::int32_t c = 0; c < kContexts; ++c) {
      ASSERT_TRUE(program->Begin(c, world.runner->Prepare({&share, 1})).ok());
      const auto ticket = program->Submit(1, c, c % 2, c % 2);
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      tickets.push_back(*ticket);
    }
    std::thread canceller([program] { program->Cancel(); });
    for (const Ticket ticket : tickets) {
      const absl::Status done = program->Wait(ticket, Deadline::Never());
      EXPECT_TRUE(done.ok() || absl::IsCancelled(done)) << done;
    }
    canceller.join();
    const absl::Status after = world.runner->RunStage(1, 0);
    EXPECT_TRUE(after.ok()) << after;
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

// A stage for short steps beside those of the same model for long ones, as under a plan with two
// routes.
void AStageForFewerTokens(const ConformanceTarget& target, Device* device) {
  World world;
  ASSERT_NO_FATAL_FAILURE(MakeWorld(target, device, &world));
  RunnerOptions options;
  options.stages = OneStagePerHalf(world.model.config);
  options.stages.insert(options.stages.begin(), {.embed = true,
                                                 .first_half = 0,
                                                 .last_half = 2 * world.model.config.num_layers,
                                                 .head = true});
  options.first_stage_tokens = 4;
  const auto bounded = ModelRunner::Make(device, world.model.config, world.model.regions, options);
  ASSERT_TRUE(bounded.ok()) << bounded.status();
  ModelRunner& runner = **bounded;
  const RunnerShare four[] = {{0, {world.tokens.begin(), world.tokens.begin() + 4}}};
  ASSERT_TRUE(world.runner->RunAll(world.runner->Prepare(four), 0, 0).ok());
  ASSERT_TRUE(runner.program()->Begin(0, runner.Prepare(four)).ok());
  ASSERT_TRUE(runner.RunStage(0, 0).ok());
  const std::span<const float> logits = runner.program()->logits(0);
  const std::span<const float> expected = world.runner->program()->logits(0);
  EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin(), expected.end()));
  runner.Commit();
  // One more is for the others alone.
  const RunnerShare five[] = {{0, {world.tokens.begin() + 4, world.tokens.begin() + 9}}};
  ASSERT_TRUE(runner.program()->Begin(0, runner.Prepare(five)).ok());
  EXPECT_EQ(runner.program()->Submit(0, 0, 0, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (std::int32_t stage = 1; stage < runner.stages(); ++stage)
    ASSERT_TRUE(runner.RunStage(stage, 0).ok()) << stage;
  EXPECT_EQ(runner.program()->logits(0).size(),
            5 * static_cast<std::size_t>(world.model.config.vocab_size));
}

void ExpectCompileRefused(Device* device, const ModelConfig& config, const std::string& what,
                          const ProgramSpec& program) {
  const auto compiled = device->Compile(config, program);
  ASSERT_FALSE(compiled.ok()) << what;
  EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument)
      << what << ": " << compiled.status();
}

void BadProgramsAreRefused(const ConformanceTarget& target, Device* device) {
  const auto model = MakeConformanceModel(ConformanceConfig(), target.formats.front());
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  const std::int32_t halves = 2 * config.num_layers;
  ProgramSpec whole;
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
  const auto refused = [&](const std::string& what, const ProgramStage& stage, auto change) {
    ProgramSpec program = whole;
    program.stages = {stage};
    change(program);
    ExpectCompileRefused(device, config, what, program);
  };
  const auto as_it_is = [](ProgramSpec&) {};
  const auto with_cache = [&](ProgramSpec& program) { program.kv_cache = cache->get(); };
  const StageSpec embed{.embed = true};
  refused("no KV cache", {all}, as_it_is);
  refused("a KV cache without layer 1", {all}, with_cache);
  refused("no weights", {embed, nullptr, small->get()},
          [](ProgramSpec& program) { program.weights.clear(); });
  refused("no output", {embed}, as_it_is);
  refused("an output for fewer tokens", {embed, nullptr, small->get()}, as_it_is);
  refused("embedding in the middle", {{.embed = true, .first_half = 1, .last_half = 2}},
          with_cache);
  refused("a head in the middle", {{.first_half = 0, .last_half = 1, .head = true}}, as_it_is);
  refused("half layers that are not there", {{.first_half = 1, .last_half = halves + 1}}, as_it_is);
  refused("nothing to do", {{.first_half = 1, .last_half = 1}}, as_it_is);
  refused("no stage", {all}, [](ProgramSpec& program) { program.stages.clear(); });
  const auto fits = [&](ProgramSpec& program) { program.limits.max_tokens = 8; };
  const ProgramStage good{embed, nullptr, small->get()};
  refused("a bound below 0", {embed, nullptr, small->get(), -1}, fits);
  const auto large = device->CreateResidual(MakeResidualLayout(1, 16, config.hidden_size));
  ASSERT_TRUE(large.ok()) << large.status();
  refused("a bound beyond the limits", {embed, nullptr, large->get(), 9}, fits);
  for (const std::int32_t contexts : {0, kMaxContexts + 1}) {
    refused(std::to_string(contexts) + " contexts", good, [&](ProgramSpec& program) {
      fits(program);
      program.contexts = contexts;
    });
  }
  ProgramSpec accepted = whole;
  accepted.stages = {good};
  fits(accepted);
  EXPECT_TRUE(device->Compile(config, accepted).ok());
  refused("a second stage that is wrong", good, [&](ProgramSpec& program) {
    fits(program);
    program.stages.push_back({embed});
  });
}

}  // namespace

std::vector<ConformanceCase> ContractCases() {
  return {{"DescribesItselfAndProbes", DescribesItself},
          {"CandidatesAreOfTheLogits", CandidatesAreOfTheLogits},
          {"BadStepsAreRefused", BadStepsAreRefused},
          {"CallsOutOfOrder", CallsOutOfOrder},
          {"SlotsOutOfRange", SlotsOutOfRange},
          {"Cancellation", Cancellation},
          {"CancellationOfSeveral", CancellationOfSeveral},
          {"SteadyState", SteadyState},
          {"AStageForFewerTokens", AStageForFewerTokens},
          {"BadProgramsAreRefused", BadProgramsAreRefused}};
}

}  // namespace tandem
