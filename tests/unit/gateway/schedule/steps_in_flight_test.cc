// Steps that are scheduled before the results of earlier ones are back, and what a step may hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "gateway/schedule/scheduler.h"
#include "lib/wire/step_wire.h"
#include "tandem/v1/worker.pb.h"
#include "tests/simulation/fake_model.h"
#include "tests/unit/gateway/schedule/scheduler_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

SchedulerOptions Options(std::int32_t depth) {
  SchedulerOptions options = SmallOptions();
  options.limits.max_sequences = 8;
  options.global_blocks = 256;
  options.window_blocks = 128;
  options.steps_in_flight = depth;
  return options;
}

// Runs a scheduler against a worker, as many steps ahead as it gives, and collects the texts.
class Runner {
 public:
  explicit Runner(SchedulerOptions options) : options_(options), scheduler_(options) { Start(); }

  void Add(std::uint64_t id, const GenerationRequest& request) {
    ASSERT_TRUE(scheduler_.Add(id, request).ok());
    requests_[id] = request;
  }

  // Until nothing is left to do; a step that fails starts the worker anew.
  void Run() {
    while (true) {
      StepPlan plan;
      while (scheduler_.Schedule(&plan)) {
        shares_ += plan.sequences.size();
        plans_.push_back(plan);
      }
      if (plans_.empty()) break;
      ASSERT_LT(++steps_, 5000) << "no end";
      absl::StatusOr<StepResult> result = worker_->Run(plans_.front());
      if (result.ok()) {
        ASSERT_TRUE(scheduler_.Update(&*result).ok());
        plans_.pop_front();
      } else {
        const bool crash = absl::IsUnavailable(result.status());
        scheduler_.Reset({crash ? 0 : plans_.front().step_id, result.status()});
        Start();
      }
      Collect();
    }
    Collect();
  }

  void Collect() {
    std::vector<RequestEvent> events;
    scheduler_.TakeEvents(&events);
    for (RequestEvent& event : events) {
      if (event.kind == RequestEvent::Kind::kToken)
        texts_[event.request].tokens.push_back(event.token.token);
      if (event.kind == RequestEvent::Kind::kPromptScores)
        texts_[event.request].scores = std::move(event.scores);
      if (event.kind != RequestEvent::Kind::kFinish) continue;
      texts_[event.request].reason = event.reason;
      statuses_[event.request] = event.status;
    }
  }

  void ExpectText(std::uint64_t id) {
    const FakeText expected = Expect(FakeModel(), requests_.at(id));
    ASSERT_TRUE(statuses_.contains(id)) << "request " << id << " has not ended";
    EXPECT_TRUE(statuses_[id].ok()) << "request " << id << ": " << statuses_[id];
    EXPECT_EQ(texts_[id].tokens, expected.tokens) << "request " << id;
    EXPECT_EQ(texts_[id].scores.size(), expected.scores.size());
    EXPECT_EQ(texts_[id].reason, expected.reason);
  }
  absl::Status StatusOf(std::uint64_t id) { return statuses_.at(id); }
  std::size_t shares() const { return shares_; }
  int restarts() const { return restarts_; }
  Scheduler& scheduler() { return scheduler_; }

 private:
  void Start() {
    worker_ =
        std::make_unique<FakeWorkerState>(FakeModel(), options_.limits, options_.sliding_window,
                                          options_.global_blocks, options_.window_blocks);
    plans_.clear();
    ++restarts_;
  }

  SchedulerOptions options_;
  Scheduler scheduler_;
  std::unique_ptr<FakeWorkerState> worker_;
  std::deque<StepPlan> plans_;
  std::map<std::uint64_t, GenerationRequest> requests_;
  std::map<std::uint64_t, FakeText> texts_;
  std::map<std::uint64_t, absl::Status> statuses_;
  std::size_t shares_ = 0;
  int steps_ = 0;
  int restarts_ = -1;
};

TEST(StepsInFlight, ATokenThatIsNotBackYetIsAPlaceholder) {
  Scheduler scheduler(Options(2));
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 3)).ok());
  StepPlan first;
  StepPlan second;
  StepPlan third;
  ASSERT_TRUE(scheduler.Schedule(&first));
  ASSERT_TRUE(scheduler.Schedule(&second));
  EXPECT_FALSE(scheduler.Schedule(&third)) << "two are in flight";
  EXPECT_THAT(first.sequences[0].tokens, ElementsAre(2, 3, 4));
  EXPECT_THAT(second.sequences[0].tokens, ElementsAre(kSampledToken));
  EXPECT_EQ(second.sequences[0].first_position, 3);
  EXPECT_TRUE(second.sequences[0].sample);

  StepResult result;
  result.step_id = 1;
  result.sequences.resize(1);
  result.sequences[0].sampled.emplace().token = 50;
  EXPECT_EQ(scheduler.in_flight(), 2);
  ASSERT_TRUE(scheduler.Update(&result).ok());
  ASSERT_TRUE(scheduler.Schedule(&third));
  EXPECT_THAT(third.sequences[0].tokens, ElementsAre(kSampledToken));
  EXPECT_EQ(third.sequences[0].first_position, 4);
  // The third step brings the last token wanted: nothing is computed beyond it.
  result.step_id = 2;
  result.sequences[0].sampled.emplace().token = 51;
  ASSERT_TRUE(scheduler.Update(&result).ok());
  EXPECT_FALSE(scheduler.Schedule(&second));
}

TEST(StepsInFlight, ResultsComeInTheOrderOfTheSteps) {
  Scheduler scheduler(Options(2));
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 3)).ok());
  StepPlan plan;
  ASSERT_TRUE(scheduler.Schedule(&plan));
  ASSERT_TRUE(scheduler.Schedule(&plan));
  StepResult result;
  result.step_id = 2;
  EXPECT_EQ(scheduler.Update(&result).code(), absl::StatusCode::kInternal);
}

TEST(StepsInFlight, EveryDepthGivesTheSameTextAndKnownEndsWasteNothing) {
  std::size_t shares = 0;
  for (std::int32_t depth = 1; depth <= kMostStepsInFlight; ++depth) {
    SCOPED_TRACE(depth);
    Runner runner(Options(depth));
    for (std::uint64_t id = 1; id <= 5; ++id) {
      GenerationRequest request = SmallRequest(10 + 9 * static_cast<std::int32_t>(id), 40, id);
      request.score_prompt = id == 3;
      runner.Add(id, request);
    }
    runner.Run();
    for (std::uint64_t id = 1; id <= 5; ++id) runner.ExpectText(id);
    if (depth == 1) shares = runner.shares();
    EXPECT_LE(runner.shares(), shares + 3) << "prompts may be cut in another way";
  }
}

TEST(StepsInFlight, AnEndOfTurnWastesOneShareInEachLaterStep) {
  std::size_t shares = 0;
  for (std::int32_t depth = 1; depth <= kMostStepsInFlight; ++depth) {
    SCOPED_TRACE(depth);
    Runner runner(Options(depth));
    GenerationRequest request = SmallRequest(10, 400, 7);
    request.ignore_eos = false;
    ASSERT_EQ(Expect(FakeModel(), request).reason, FinishReason::kStop);
    runner.Add(1, request);
    runner.Run();
    runner.ExpectText(1);
    if (depth == 1) shares = runner.shares();
    EXPECT_EQ(runner.shares(), shares + static_cast<std::size_t>(depth) - 1);
  }
}

TEST(StepsInFlight, AFailedShareEndsItsRequestAlone) {
  Runner runner(Options(3));
  for (std::uint64_t id = 1; id <= 4; ++id) runner.Add(id, SmallRequest(20, 30, id));
  runner.Add(5, SmallRequest(20, 30, PoisonedSeed(5, {Poison::Kind::kSequence, 33})));
  runner.Run();
  for (std::uint64_t id = 1; id <= 4; ++id) runner.ExpectText(id);
  EXPECT_EQ(runner.StatusOf(5).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(runner.StatusOf(5).message()), HasSubstr("this one is poisoned"));
  EXPECT_EQ(runner.restarts(), 0);
}

// The culprit stands at any place in the batch and fails at any token, in every way a whole step
// can fail; the others get their text.
TEST(StepsInFlight, TheCulpritOfAFailedStepIsFoundByHalves) {
  for (const Poison::Kind kind : {Poison::Kind::kStep, Poison::Kind::kCrash}) {
    for (std::uint64_t culprit = 1; culprit <= 8; ++culprit) {
      for (const std::int32_t position : {0, 12, 19, 20, 35}) {
        SCOPED_TRACE(::testing::Message() << "culprit " << culprit << " at " << position);
        Runner runner(Options(1 + static_cast<std::int32_t>(culprit % 4)));
        for (std::uint64_t id = 1; id <= 8; ++id) {
          runner.Add(id,
                     SmallRequest(20, 30, id == culprit ? PoisonedSeed(id, {kind, position}) : id));
        }
        runner.Run();
        for (std::uint64_t id = 1; id <= 8; ++id) {
          if (id != culprit) runner.ExpectText(id);
        }
        EXPECT_EQ(runner.StatusOf(culprit).code(), kind == Poison::Kind::kStep
                                                       ? absl::StatusCode::kInternal
                                                       : absl::StatusCode::kUnavailable);
        EXPECT_LE(runner.restarts(), kind == Poison::Kind::kStep ? 4 : 8);
        EXPECT_FALSE(runner.scheduler().searching());
      }
    }
  }
}

// A start that breaks the step before its request has a share in it.
TEST(StepsInFlight, ARequestThatHasOnlyStartedIsASuspect) {
  SchedulerOptions options = Options(1);
  options.limits.max_tokens = options.limits.max_sequences;
  Scheduler scheduler(options);
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(20, 5)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(20, 5)).ok());
  StepPlan plan;
  ASSERT_TRUE(scheduler.Schedule(&plan));
  ASSERT_THAT(plan.starts, SizeIs(2));
  ASSERT_THAT(plan.sequences, SizeIs(1)) << "the first takes all tokens";
  scheduler.Reset({1, absl::InternalError("bad start")});
  // Each runs alone; whoever is bad fails alone.
  ASSERT_TRUE(scheduler.Schedule(&plan));
  EXPECT_THAT(plan.starts, SizeIs(1));
  scheduler.Reset({1, absl::InternalError("bad start")});
  std::vector<RequestEvent> events;
  scheduler.TakeEvents(&events);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].request, 1u);
  EXPECT_EQ(events[0].status.code(), absl::StatusCode::kInternal);
}

TEST(StepsInFlight, WhoStaysBehindIsNotBlamedForOneThatLeft) {
  Scheduler scheduler(Options(2));
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(5, 5)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(5, 5)).ok());
  StepPlan plan;
  ASSERT_TRUE(scheduler.Schedule(&plan));
  ASSERT_TRUE(scheduler.Cancel(1));
  scheduler.Reset({1, absl::InternalError("bad step")});
  std::vector<RequestEvent> events;
  scheduler.TakeEvents(&events);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].reason, FinishReason::kCancelled);
  EXPECT_TRUE(scheduler.Schedule(&plan));
}

// A worker that refuses every step must not keep requests for ever.
TEST(StepsInFlight, AWorkerThatRefusesEveryStepEndsInErrors) {
  Scheduler scheduler(Options(2));
  for (std::uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(scheduler.Add(id, SmallRequest(5, 5)).ok());
  StepPlan plan;
  std::vector<RequestEvent> events;
  std::size_t ended = 0;
  int resets = 0;
  while (scheduler.Schedule(&plan)) {
    ASSERT_LT(++resets, 100);
    scheduler.Reset({plan.step_id, absl::InvalidArgumentError("no")});
    scheduler.TakeEvents(&events);
    ended += events.size();
  }
  EXPECT_EQ(ended, 8u);
  EXPECT_LE(resets, 16);
}

// One step of 24 starts with all that logit_bias can hold would have 88 MB.
TEST(StepBytes, StartsWaitForTheNextStepWhenTheMessageIsFull) {
  SchedulerOptions options = Options(2);
  options.vocab_size = 262144;
  options.limits.max_sequences = options.limits.max_logit_rows = 32;
  Scheduler scheduler(options);
  GenerationRequest request = SmallRequest(3, 2);
  for (std::int32_t token = 0; token < options.vocab_size; ++token)
    request.sampling.logit_bias.emplace_back(token, 1.0f);
  for (std::uint64_t id = 1; id <= 24; ++id) ASSERT_TRUE(scheduler.Add(id, request).ok());
  StepPlan plan;
  std::size_t started = 0;
  std::size_t most = 0;
  while (scheduler.Schedule(&plan)) {
    if (started == 0) {
      most = plan.starts.size();
      EXPECT_LE(ToProto(plan).ByteSizeLong(), static_cast<std::size_t>(options.max_step_bytes));
    }
    started += plan.starts.size();
    EXPECT_LE(plan.starts.size(), most);
    StepResult result;
    result.step_id = plan.step_id;
    for (const SequenceShare& share : plan.sequences) {
      SequenceResult& out = result.sequences.emplace_back();
      out.slot = share.slot;
      if (share.sample) out.sampled.emplace().token = 5;
    }
    ASSERT_TRUE(scheduler.Update(&result).ok());
  }
  EXPECT_EQ(started, 24u);
  EXPECT_EQ(scheduler.running() + scheduler.waiting(), 0);
}

TEST(StepBytes, TheBoundHoldsForTheLongestReplayAndTheFullestStep) {
  SchedulerOptions options = Options(1);
  options.vocab_size = 262144;
  options.context_tokens = 131072;
  options.limits.max_blocks_per_sequence = 8192;
  options.global_blocks = 8192;
  SequenceStart start;
  start.slot = options.limits.max_sequences - 1;
  start.sampling.seed = ~std::uint64_t{0};
  start.sampling.frequency_penalty = start.sampling.presence_penalty = 1;
  start.sampling.top_k = 1000;
  for (std::int32_t token = 0; token < options.vocab_size; ++token)
    start.sampling.logit_bias.emplace_back(token, -99.5f);
  start.generated.assign(100'000, options.vocab_size - 1);
  const std::int64_t bound = StartBytesBound(start.sampling, 100'000);
  StepPlan plan;
  plan.step_id = plan.generation = ~std::uint64_t{0};
  plan.timeout = absl::Seconds(1);
  plan.starts = {start};
  EXPECT_LE(ToProto(plan).ByteSizeLong(), static_cast<std::size_t>(bound) + 64);
  EXPECT_LT(bound, kDefaultStepBytes / 2);

  plan.starts.clear();
  for (std::int32_t slot = 0; slot < options.limits.max_sequences; ++slot) {
    SequenceShare share;
    share.slot = slot;
    share.first_position = share.window_blocks_left = 2'000'000'000;
    share.tokens.assign(4, options.vocab_size - 1);
    share.new_global_blocks.assign(1, 2'000'000'000);
    share.new_window_blocks.assign(1, 2'000'000'000);
    share.sample = share.score = true;
    share.next_token = options.vocab_size - 1;
    plan.sequences.push_back(share);
    plan.ends.push_back(slot);
  }
  plan.micro_batch_ends = {8, 16, 24, 32};
  EXPECT_LE(ToProto(plan).ByteSizeLong(),
            static_cast<std::size_t>(SharesBytesBound(options.limits)));
}

TEST(StepBytes, ARequestWhoseStartCannotFitIsRefused) {
  SchedulerOptions options = Options(1);
  options.max_step_bytes = 8192;
  Scheduler scheduler(options);
  GenerationRequest request = SmallRequest(3, 5);
  for (std::int32_t token = 0; token < 900; ++token)
    request.sampling.logit_bias.emplace_back(token, 1.0f);
  const absl::Status status = scheduler.Add(1, request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("logit_bias (900 entries)"));
}

TEST(MicroBatches, AreCutByTokensAndNeverTooSmall) {
  std::vector<std::int32_t> ends;
  CutMicroBatches(512, 2, 32, &ends);
  EXPECT_THAT(ends, ElementsAre(256, 512));
  CutMicroBatches(101, 2, 32, &ends);
  EXPECT_THAT(ends, ElementsAre(50, 101));
  CutMicroBatches(63, 2, 32, &ends);
  EXPECT_THAT(ends, IsEmpty());
  CutMicroBatches(100, 4, 32, &ends);
  EXPECT_THAT(ends, ElementsAre(33, 66, 100));
  CutMicroBatches(512, 1, 1, &ends);
  EXPECT_THAT(ends, IsEmpty());
}

TEST(MicroBatches, OfWholePromptsEndWithOne) {
  const auto moved = [](const std::vector<std::size_t>& sizes, std::vector<std::int32_t> ends) {
    std::vector<SequenceShare> shares;
    for (const std::size_t size : sizes) {
      shares.emplace_back();
      shares.back().tokens.resize(size);
    }
    MoveToShareEnds(shares, &ends);
    return ends;
  };
  EXPECT_THAT(moved({30, 40, 30}, {50, 100}), ElementsAre(70, 100));
  EXPECT_THAT(moved({30, 20, 50}, {50, 100}), ElementsAre(50, 100));
  EXPECT_THAT(moved({10, 90}, {25, 50, 75, 100}), ElementsAre(100));
  EXPECT_THAT(moved({10, 90}, {}), ElementsAre());
}

TEST(MicroBatches, APromptAloneIsCutInside) {
  SchedulerOptions options = Options(1);
  options.micro_batches = 2;
  options.min_micro_batch_tokens = 8;
  Scheduler scheduler(options);
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(30, 2)).ok());
  StepPlan plan;
  ASSERT_TRUE(scheduler.Schedule(&plan));
  EXPECT_THAT(plan.sequences, SizeIs(1));
  EXPECT_THAT(plan.micro_batch_ends, ElementsAre(15, 30));
}

// A constraint's forced tokens are computed in company, and the text is the one that they would be
// sampled to, one by one.
TEST(ForcedTokens, JumpAheadWithTheSameText) {
  for (std::int32_t depth = 1; depth <= kMostStepsInFlight; ++depth) {
    std::size_t shares[2] = {0, 0};
    for (const bool constrained : {false, true}) {
      Runner runner(Options(depth));
      for (std::uint64_t id = 0; id < 6; ++id) {
        GenerationRequest request =
            SmallRequest(5 + static_cast<std::int32_t>(id), 70, /*seed=*/100 + id);
        if (constrained) {
          request.sampling.constraint = std::make_shared<const Constraint>(
              Constraint{.grammar = "root ::= .*", .stop_tokens = {1}});
        }
        runner.Add(id, request);
      }
      runner.Run();
      for (std::uint64_t id = 0; id < 6; ++id) runner.ExpectText(id);
      shares[constrained ? 1 : 0] = runner.shares();
    }
    EXPECT_LT(shares[1], shares[0]) << "with " << depth << " steps in flight";
  }
}

TEST(ForcedTokens, AreRefusedWithoutAConstraint) {
  Scheduler scheduler(Options(1));
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 5)).ok());
  StepPlan plan;
  ASSERT_TRUE(scheduler.Schedule(&plan));
  StepResult result{.step_id = plan.step_id, .sequences = {}};
  result.sequences.push_back({.slot = plan.sequences[0].slot,
                              .status = absl::OkStatus(),
                              .sampled = SampledToken{.token = 5, .logprob = -1, .top = {}},
                              .forced = {6}});
  EXPECT_EQ(scheduler.Update(&result).code(), absl::StatusCode::kInternal);
}

// The worker says OUT_OF_RANGE of a grammar that cannot be followed: that is the request's fault.
TEST(ForcedTokens, AConstraintThatCannotBeFollowedIsAWrongRequest) {
  for (const bool constrained : {true, false}) {
    Scheduler scheduler(Options(1));
    GenerationRequest request = SmallRequest(3, 5);
    if (constrained) {
      request.sampling.constraint = std::make_shared<const Constraint>(
          Constraint{.grammar = "root ::= .*", .stop_tokens = {1}});
    }
    ASSERT_TRUE(scheduler.Add(1, request).ok());
    StepPlan plan;
    ASSERT_TRUE(scheduler.Schedule(&plan));
    StepResult result{.step_id = plan.step_id, .sequences = {}};
    result.sequences.push_back(
        {.slot = plan.sequences[0].slot, .status = absl::OutOfRangeError("too large")});
    ASSERT_TRUE(scheduler.Update(&result).ok());
    std::vector<RequestEvent> events;
    scheduler.TakeEvents(&events);
    ASSERT_THAT(events, SizeIs(1));
    EXPECT_EQ(events[0].reason, FinishReason::kError);
    EXPECT_EQ(events[0].status.code(),
              constrained ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kOutOfRange);
  }
}

// A grammar travels with the start of its request, and counts against the bound of a step.
TEST(ForcedTokens, GrammarsFitTheStepsMessage) {
  GenerationRequest request = SmallRequest(3, 5);
  request.sampling.constraint = std::make_shared<const Constraint>(
      Constraint{.grammar = std::string(1000, 'x'), .stop_tokens = {1, 2}});
  SequenceStart start{.slot = 7, .sampling = request.sampling, .generated = {}};
  StepPlan plan;
  plan.starts.push_back(start);
  EXPECT_LE(static_cast<std::int64_t>(ToProto(plan).ByteSizeLong()),
            StartBytesBound(request.sampling, 0));
}

}  // namespace
}  // namespace tandem
