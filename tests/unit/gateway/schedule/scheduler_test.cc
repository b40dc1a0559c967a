#include "gateway/schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/simulation/fake_model.h"
#include "tests/unit/gateway/schedule/scheduler_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

SchedulerOptions Options() {
  SchedulerOptions options = SmallOptions();
  options.max_waiting = 3;
  options.mixed_prefill_tokens = 8;
  return options;
}

std::optional<StepPlan> Next(Scheduler& scheduler) {
  StepPlan plan;
  return scheduler.Schedule(&plan) ? std::optional<StepPlan>(std::move(plan)) : std::nullopt;
}

absl::Status Give(Scheduler& scheduler, StepResult result) { return scheduler.Update(&result); }

std::vector<RequestEvent> Events(Scheduler& scheduler) {
  std::vector<RequestEvent> events;
  scheduler.TakeEvents(&events);
  return events;
}

StepFailure Away() { return {0, absl::UnavailableError("a worker is gone")}; }

std::vector<FinishReason> Finishes(const std::vector<RequestEvent>& events) {
  std::vector<FinishReason> out;
  for (const RequestEvent& event : events) {
    if (event.kind == RequestEvent::Kind::kFinish) out.push_back(event.reason);
  }
  return out;
}

TEST(Scheduler, PromptThenDecodeThenLength) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(7, SmallRequest(3, 2)).ok());
  std::optional<StepPlan> step = Next(scheduler);
  ASSERT_TRUE(step.has_value());
  EXPECT_EQ(step->step_id, 1u);
  ASSERT_THAT(step->starts, SizeIs(1));
  ASSERT_THAT(step->sequences, SizeIs(1));
  EXPECT_THAT(step->sequences[0].tokens, ElementsAre(2, 3, 4));
  EXPECT_THAT(step->sequences[0].new_global_blocks, SizeIs(1));
  EXPECT_TRUE(step->sequences[0].sample);
  ASSERT_TRUE(Give(scheduler, ResultOf(*step, 50)).ok());

  step = Next(scheduler);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(step->starts, IsEmpty());
  EXPECT_EQ(step->sequences[0].first_position, 3);
  EXPECT_THAT(step->sequences[0].tokens, ElementsAre(50));
  EXPECT_THAT(step->sequences[0].new_global_blocks, IsEmpty());
  ASSERT_TRUE(Give(scheduler, ResultOf(*step, 51)).ok());

  const std::vector<RequestEvent> events = Events(scheduler);
  ASSERT_THAT(events, SizeIs(3));
  EXPECT_EQ(events[0].token.token, 50);
  EXPECT_EQ(events[1].token.token, 51);
  EXPECT_EQ(events[2].reason, FinishReason::kLength);
  EXPECT_FALSE(Next(scheduler).has_value());
  EXPECT_EQ(scheduler.global_pool().taken(), 0);
  EXPECT_EQ(scheduler.window_pool().unreserved(), 64);

  // The freed slot is told with the next step that runs at all.
  ASSERT_TRUE(scheduler.Add(8, SmallRequest(1, 1)).ok());
  step = Next(scheduler);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(step->ends, ElementsAre(0));
}

TEST(Scheduler, EndOfSequenceStopsAndIsNotDelivered) {
  Scheduler scheduler(Options());
  GenerationRequest request = SmallRequest(2, 10);
  request.ignore_eos = false;
  ASSERT_TRUE(scheduler.Add(1, request).ok());
  ASSERT_TRUE(Give(scheduler, ResultOf(*Next(scheduler), 1)).ok());
  const std::vector<RequestEvent> events = Events(scheduler);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].reason, FinishReason::kStop);
}

TEST(Scheduler, DecodesComeFirstAndBoundThePrefillBesideThem) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(2, 20)).ok());
  ASSERT_TRUE(Give(scheduler, ResultOf(*Next(scheduler), 9)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(40, 20)).ok());
  const std::optional<StepPlan> step = Next(scheduler);
  ASSERT_THAT(step->sequences, SizeIs(2));
  EXPECT_THAT(step->sequences[0].tokens, SizeIs(1));
  EXPECT_TRUE(step->sequences[0].sample);
  // mixed_prefill_tokens
  EXPECT_THAT(step->sequences[1].tokens, SizeIs(8));
  EXPECT_FALSE(step->sequences[1].sample);
  EXPECT_EQ(step->decode_tokens, 1);
  EXPECT_EQ(step->prefill_tokens, 8);
}

TEST(Scheduler, PrefillAloneTakesTheWholeBudget) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(40, 1)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(40, 1)).ok());
  std::optional<StepPlan> step = Next(scheduler);
  ASSERT_THAT(step->sequences, SizeIs(1));
  EXPECT_THAT(step->sequences[0].tokens, SizeIs(32));
  ASSERT_TRUE(Give(scheduler, ResultOf(*step, 9)).ok());
  step = Next(scheduler);
  ASSERT_THAT(step->sequences, SizeIs(2));
  EXPECT_THAT(step->sequences[0].tokens, SizeIs(8));
  EXPECT_TRUE(step->sequences[0].sample);
  EXPECT_THAT(step->sequences[1].tokens, SizeIs(24));
}

TEST(Scheduler, ScoringIsBoundedByLogitRows) {
  Scheduler scheduler(Options());
  GenerationRequest request = SmallRequest(20, 0);
  request.score_prompt = true;
  ASSERT_TRUE(scheduler.Add(1, request).ok());
  std::vector<std::size_t> chunks;
  std::vector<std::int32_t> next;
  while (std::optional<StepPlan> step = Next(scheduler)) {
    chunks.push_back(step->sequences[0].tokens.size());
    next.push_back(step->sequences[0].next_token);
    EXPECT_TRUE(step->sequences[0].score);
    EXPECT_FALSE(step->sequences[0].sample);
    ASSERT_TRUE(Give(scheduler, ResultOf(*step, 0)).ok());
  }
  EXPECT_THAT(chunks, ElementsAre(8, 8, 4));
  EXPECT_THAT(next, ElementsAre(10, 18, -1));
  const std::vector<RequestEvent> events = Events(scheduler);
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].kind, RequestEvent::Kind::kPromptScores);
  EXPECT_THAT(events[0].scores, SizeIs(19));
  EXPECT_EQ(events[1].reason, FinishReason::kLength);
}

TEST(Scheduler, PoolingTakesAPromptInChunksOfAnySize) {
  Scheduler scheduler(Options());
  GenerationRequest request = SmallRequest(70, 0);
  request.pool_prompt = true;
  ASSERT_TRUE(scheduler.Add(1, request).ok());
  std::vector<std::size_t> chunks;
  const auto run = [&](int most) {
    for (int i = 0; i < most; ++i) {
      std::optional<StepPlan> step = Next(scheduler);
      if (!step.has_value()) return;
      const SequenceShare& share = step->sequences[0];
      chunks.push_back(share.tokens.size());
      EXPECT_TRUE(share.pool);
      EXPECT_FALSE(share.sample || share.score);
      ASSERT_TRUE(Give(scheduler, ResultOf(*step, 0)).ok());
    }
  };
  run(1);
  // What was summed before counts no more.
  scheduler.Reset(Away());
  run(10);
  EXPECT_THAT(chunks, ElementsAre(32, 32, 32, 6));
  const std::vector<RequestEvent> events = Events(scheduler);
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].kind, RequestEvent::Kind::kPooled);
  // The sum of the chunks' sizes over the prompt's.
  EXPECT_THAT(events[0].pooled, ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(events[1].reason, FinishReason::kLength);
}

GenerationRequest Embedding(std::int32_t tokens) {
  GenerationRequest request = SmallRequest(tokens, 0);
  request.pool_prompt = true;
  return request;
}

TEST(Scheduler, AnEncodersPromptsAreNeverCutAndGoInOrder) {
  SchedulerOptions options = Options();
  options.encoder = true;
  options.micro_batches = 2;
  options.min_micro_batch_tokens = 4;
  Scheduler scheduler(options);
  const std::int32_t sizes[] = {10, 32, 1, 20};
  for (std::size_t i = 0; i < std::size(sizes); ++i)
    ASSERT_TRUE(scheduler.Add(i + 1, Embedding(sizes[i])).ok());
  std::vector<std::vector<std::int32_t>> steps;
  std::vector<std::vector<std::int32_t>> ends;
  while (const std::optional<StepPlan> step = Next(scheduler)) {
    steps.emplace_back();
    ends.push_back(step->micro_batch_ends);
    for (const SequenceShare& share : step->sequences) {
      EXPECT_EQ(share.first_position, 0);
      EXPECT_TRUE(share.pool);
      steps.back().push_back(static_cast<std::int32_t>(share.tokens.size()));
    }
    ASSERT_TRUE(Give(scheduler, ResultOf(*step, 0)).ok());
  }
  // The second does not fit beside the first, and nobody passes it.
  EXPECT_THAT(steps, ElementsAre(ElementsAre(10), ElementsAre(32), ElementsAre(1, 20)));
  EXPECT_THAT(ends, ElementsAre(ElementsAre(10), ElementsAre(32), ElementsAre(21)));
  EXPECT_THAT(Finishes(Events(scheduler)), SizeIs(4));
  EXPECT_EQ(scheduler.global_pool().taken(), 0);
  EXPECT_EQ(scheduler.window_pool().taken(), 0);
}

TEST(Scheduler, AnEncoderOnlyPoolsWhatFitsAStep) {
  SchedulerOptions options = Options();
  options.encoder = true;
  Scheduler scheduler(options);
  EXPECT_THAT(std::string(scheduler.Add(1, Embedding(33)).message()),
              HasSubstr("prompt (33 tokens)"));
  GenerationRequest both = Embedding(3);
  both.max_tokens = 1;
  GenerationRequest scored = Embedding(3);
  scored.score_prompt = true;
  for (const GenerationRequest& request : {SmallRequest(3, 1), both, scored}) {
    const absl::Status status = scheduler.Add(1, request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the model is an encoder"));
  }
  EXPECT_TRUE(scheduler.Add(1, Embedding(32)).ok());
}

TEST(Scheduler, ASumOfAnotherSizeIsNoResult) {
  Scheduler scheduler(Options());
  GenerationRequest request = SmallRequest(5, 0);
  request.pool_prompt = true;
  ASSERT_TRUE(scheduler.Add(1, request).ok());
  const std::optional<StepPlan> step = Next(scheduler);
  ASSERT_TRUE(step.has_value());
  StepResult result = ResultOf(*step, 0);
  result.sequences[0].pooled.pop_back();
  const absl::Status status = Give(scheduler, result);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("4 sums of hidden states, found 3"));
}

TEST(Scheduler, WindowBlocksComeBackAsTheWindowMoves) {
  SchedulerOptions options = Options();
  // A window of 24 and chunks of 32 touch at most five blocks of 16.
  options.window_blocks = 5;
  Scheduler scheduler(options);
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(100, 100)).ok());
  std::int32_t left = 0;
  while (std::optional<StepPlan> step = Next(scheduler)) {
    const SequenceShare& share = step->sequences[0];
    EXPECT_GE(share.window_blocks_left, left);
    left = share.window_blocks_left;
    EXPECT_LE(left * kKvBlockTokens, std::max(0, share.first_position - 23));
    ASSERT_TRUE(Give(scheduler, ResultOf(*step, 9)).ok());
  }
  EXPECT_EQ(left, (198 - 23) / kKvBlockTokens);
}

TEST(Scheduler, RefusesWhatCanNeverRun) {
  Scheduler scheduler(Options());
  EXPECT_THAT(std::string(scheduler.Add(1, SmallRequest(0, 1)).message()), HasSubstr("prompt"));
  EXPECT_THAT(std::string(scheduler.Add(1, SmallRequest(1, 0)).message()), HasSubstr("max_tokens"));
  EXPECT_THAT(std::string(scheduler.Add(1, SmallRequest(500, 13)).message()), HasSubstr("513"));
  GenerationRequest request = SmallRequest(1, 1);
  request.prompt = {997};
  EXPECT_EQ(scheduler.Add(1, request).code(), absl::StatusCode::kInvalidArgument);
  request = SmallRequest(1, 1);
  request.sampling.temperature = -1;
  EXPECT_EQ(scheduler.Add(1, request).code(), absl::StatusCode::kInvalidArgument);

  SchedulerOptions options = Options();
  options.global_blocks = 3;
  Scheduler tight(options);
  // 48 positions: the last token is never fed back.
  EXPECT_TRUE(tight.Add(1, SmallRequest(40, 9)).ok());
  EXPECT_THAT(std::string(tight.Add(2, SmallRequest(40, 10)).message()), HasSubstr("4 blocks"));
}

TEST(Scheduler, QueueIsBounded) {
  Scheduler scheduler(Options());
  for (std::uint64_t id = 0; id < 7; ++id)
    ASSERT_TRUE(scheduler.Add(id, SmallRequest(1, 1)).ok()) << id;
  EXPECT_EQ(scheduler.Add(7, SmallRequest(1, 1)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(scheduler.Cancel(3));
  EXPECT_TRUE(scheduler.Add(8, SmallRequest(1, 1)).ok());
}

TEST(Scheduler, AdmissionWaitsForTheBlocksOfTheWholeRequest) {
  SchedulerOptions options = Options();
  options.global_blocks = 6;
  Scheduler scheduler(options);
  // 4 blocks.
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(16, 49)).ok());
  // 3 blocks: waits.
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(16, 33)).ok());
  // 1 block: does not overtake.
  ASSERT_TRUE(scheduler.Add(3, SmallRequest(1, 1)).ok());
  EXPECT_THAT(Next(scheduler)->starts, SizeIs(1));
  EXPECT_EQ(scheduler.waiting(), 2);
}

TEST(Scheduler, CancelFreesSlotAndBlocksWithTheNextStep) {
  SchedulerOptions options = Options();
  options.limits.max_sequences = 1;
  Scheduler scheduler(options);
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(20, 50)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(5, 5)).ok());
  std::optional<StepPlan> step = Next(scheduler);
  // While the step runs.
  EXPECT_TRUE(scheduler.Cancel(1));
  EXPECT_FALSE(scheduler.Cancel(1));
  EXPECT_EQ(scheduler.global_pool().taken(), 0);
  ASSERT_TRUE(Give(scheduler, ResultOf(*step, 9)).ok());
  EXPECT_THAT(Finishes(Events(scheduler)), ElementsAre(FinishReason::kCancelled));
  step = Next(scheduler);
  EXPECT_THAT(step->ends, ElementsAre(0));
  ASSERT_THAT(step->starts, SizeIs(1));
  EXPECT_EQ(step->starts[0].slot, 0);
}

TEST(Scheduler, RefusesResultsThatDoNotAnswerTheStep) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 2)).ok());
  const std::optional<StepPlan> step = Next(scheduler);
  StepResult wrong = ResultOf(*step, 9);
  wrong.step_id = 2;
  EXPECT_EQ(Give(scheduler, wrong).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Give(scheduler, {.step_id = 1, .sequences = {}}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Give(scheduler, ResultOf(*step, 997)).code(), absl::StatusCode::kInternal);
  wrong = ResultOf(*step, 9);
  wrong.sequences[0].scored.resize(1);
  EXPECT_EQ(Give(scheduler, wrong).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(Give(scheduler, ResultOf(*step, 9)).ok());
}

TEST(Scheduler, ResetReplaysPromptAndGeneratedTokens) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 5)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(2, 5)).ok());
  ASSERT_TRUE(Give(scheduler, ResultOf(*Next(scheduler), 50)).ok());
  ASSERT_TRUE(Next(scheduler).has_value());
  scheduler.Reset(Away());
  EXPECT_EQ(scheduler.running(), 0);
  EXPECT_EQ(scheduler.waiting(), 2);
  const std::optional<StepPlan> step = Next(scheduler);
  EXPECT_EQ(step->step_id, 1u);
  EXPECT_THAT(step->ends, IsEmpty());
  ASSERT_THAT(step->starts, SizeIs(2));
  EXPECT_THAT(step->starts[0].generated, ElementsAre(50));
  EXPECT_THAT(step->sequences[0].tokens, ElementsAre(2, 3, 4, 50));
  EXPECT_EQ(step->sequences[0].first_position, 0);
  EXPECT_THAT(step->sequences[1].tokens, ElementsAre(2, 3, 50));
}

TEST(Scheduler, ARequestThatFailsTheClusterAgainAndAgainEnds) {
  Scheduler scheduler(Options());
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 5)).ok());
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Next(scheduler).has_value());
    scheduler.Reset(Away());
  }
  const std::vector<RequestEvent> events = Events(scheduler);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].reason, FinishReason::kError);
  EXPECT_EQ(events[0].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(Next(scheduler).has_value());
}

TEST(Scheduler, FailAllEndsEverybody) {
  SchedulerOptions options = Options();
  options.limits.max_sequences = 1;
  Scheduler scheduler(options);
  ASSERT_TRUE(scheduler.Add(1, SmallRequest(3, 5)).ok());
  ASSERT_TRUE(scheduler.Add(2, SmallRequest(3, 5)).ok());
  ASSERT_TRUE(Next(scheduler).has_value());
  scheduler.FailAll(absl::UnavailableError("gone"));
  EXPECT_THAT(Finishes(Events(scheduler)), ElementsAre(FinishReason::kError, FinishReason::kError));
  EXPECT_EQ(scheduler.window_pool().unreserved(), 64);
  EXPECT_EQ(scheduler.in_flight(), 0);
}

TEST(SchedulerOptions, NamesTheWrongOption) {
  SchedulerOptions options = Options();
  options.limits.max_logit_rows = 3;
  EXPECT_THAT(std::string(ValidateSchedulerOptions(options).message()),
              HasSubstr("max_logit_rows"));
  options = Options();
  options.steps_in_flight = 5;
  EXPECT_THAT(std::string(ValidateSchedulerOptions(options).message()),
              HasSubstr("steps_in_flight: expected 1 to 4, found 5"));
  options = Options();
  options.max_step_bytes = 1000;
  EXPECT_THAT(std::string(ValidateSchedulerOptions(options).message()),
              HasSubstr("max_step_bytes"));
}

}  // namespace
}  // namespace tandem
