// Steps of a plan whose prompts take a route of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "gateway/schedule/scheduler.h"
#include "tests/unit/gateway/schedule/scheduler_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::int32_t kToken = 50;

SchedulerOptions Options(std::int32_t steps_in_flight) {
  SchedulerOptions options = SmallOptions();
  options.mixed_prefill_tokens = 8;
  options.steps_in_flight = steps_in_flight;
  options.micro_batches = 1;
  options.prefill_micro_batches = 2;
  options.min_micro_batch_tokens = 4;
  return options;
}

class Routes : public testing::Test {
 protected:
  explicit Routes(std::int32_t steps_in_flight = 1) : scheduler_(Options(steps_in_flight)) {}

  // "P" for prefill and "D" for decode, with the tokens of each share: "P 32", "D 1 1".
  std::string Schedule() {
    StepPlan plan;
    if (!scheduler_.Schedule(&plan)) return "none";
    std::string text = plan.route == kPrefillRoute ? "P" : "D";
    for (const SequenceShare& share : plan.sequences)
      absl::StrAppend(&text, " ", share.tokens.size());
    plans_.push_back(std::move(plan));
    return text;
  }
  // The result of the oldest step, each sample with `forced`.
  void Answer(const std::vector<std::int32_t>& forced = {}) {
    const StepPlan& plan = plans_[answered_++];
    StepResult result = ResultOf(plan, kToken);
    for (SequenceResult& out : result.sequences)
      if (out.sampled.has_value()) out.forced = forced;
    ASSERT_TRUE(scheduler_.Update(&result).ok());
  }
  std::string Step() {
    std::string text = Schedule();
    if (text != "none") Answer();
    return text;
  }

  Scheduler scheduler_;
  std::vector<StepPlan> plans_;
  std::size_t answered_ = 0;
};

TEST_F(Routes, PromptsAndDecodesTakeTurns) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(40, 60)).ok());
  // Alone a prompt takes all of a step.
  EXPECT_EQ(Step(), "P 32");
  EXPECT_EQ(Step(), "P 8");
  EXPECT_EQ(Step(), "D 1");
  EXPECT_EQ(Step(), "D 1");
  // Long prompts do not hold up the stream for more than one step, whose tokens are bounded.
  ASSERT_TRUE(scheduler_.Add(2, SmallRequest(20, 60)).ok());
  ASSERT_TRUE(scheduler_.Add(3, SmallRequest(20, 60)).ok());
  for (const char* prompts : {"P 8", "P 8", "P 4 4"}) {
    EXPECT_EQ(Step(), prompts);
    EXPECT_NE(Step().find("D 1"), std::string::npos);
  }
  EXPECT_EQ(Step(), "P 8");
  EXPECT_EQ(Step(), "D 1 1");
  EXPECT_EQ(Step(), "P 8");
  EXPECT_EQ(Step(), "D 1 1 1");
  EXPECT_EQ(Step(), "D 1 1 1");
}

// A stream of new prompts that never ends: every other step still decodes.
TEST_F(Routes, NeitherStarves) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(3, 200)).ok());
  EXPECT_EQ(Step(), "P 3");
  std::uint64_t next = 2;
  std::int32_t prompts_done = 0;
  for (int round = 0; round < 100; ++round) {
    while (scheduler_.running() + scheduler_.waiting() < 6)
      ASSERT_TRUE(scheduler_.Add(next++, SmallRequest(30, 1)).ok());
    EXPECT_EQ(Step().substr(0, 1), "D") << round;
    EXPECT_EQ(Step().substr(0, 1), "P") << round;
    std::vector<RequestEvent> events;
    scheduler_.TakeEvents(&events);
    for (const RequestEvent& event : events)
      prompts_done += event.kind == RequestEvent::Kind::kFinish ? 1 : 0;
  }
  // 100 steps of 8 tokens.
  EXPECT_GE(prompts_done, 100 * 8 / 30 - 4);
}

TEST_F(Routes, AStepIsCutAsItsRouteIs) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(32, 60)).ok());
  ASSERT_TRUE(scheduler_.Add(2, SmallRequest(1, 60)).ok());
  ASSERT_TRUE(scheduler_.Add(3, SmallRequest(1, 60)).ok());
  // Prompts of one token are no work for the prefill's route.
  EXPECT_EQ(Schedule(), "P 8");
  EXPECT_THAT(plans_.back().micro_batch_ends, ElementsAre(4, 8));
  EXPECT_THAT(plans_.back().starts, SizeIs(3));
  Answer();
  EXPECT_EQ(Schedule(), "D 1 1");
  EXPECT_THAT(plans_.back().micro_batch_ends, IsEmpty());
}

TEST_F(Routes, WhatAConstraintForcesIsDecoded) {
  GenerationRequest request = SmallRequest(20, 200);
  request.sampling.constraint =
      std::make_shared<const Constraint>(Constraint{.grammar = "root ::= .*", .stop_tokens = {1}});
  ASSERT_TRUE(scheduler_.Add(1, request).ok());
  ASSERT_TRUE(scheduler_.Add(2, SmallRequest(100, 60)).ok());
  EXPECT_EQ(Schedule(), "P 20 12");
  Answer(std::vector<std::int32_t>(20, 7));
  EXPECT_EQ(Schedule(), "D 21");
  Answer();
  EXPECT_EQ(Step(), "P 8");
  EXPECT_EQ(Step(), "D 1");
}

TEST_F(Routes, ScoresAndSumsOfPromptsArePrefill) {
  GenerationRequest request = SmallRequest(6, 0);
  request.score_prompt = true;
  request.pool_prompt = true;
  ASSERT_TRUE(scheduler_.Add(1, request).ok());
  EXPECT_EQ(Step(), "P 6");
  EXPECT_EQ(Step(), "none");
  EXPECT_EQ(scheduler_.running(), 0);
}

TEST_F(Routes, AReplayIsPrefill) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(3, 200)).ok());
  EXPECT_EQ(Step(), "P 3");
  for (int i = 0; i < 60; ++i) EXPECT_EQ(Step(), "D 1");
  scheduler_.Reset({0, absl::UnavailableError("a worker is gone")});
  // 3 of the prompt, 61 generated.
  EXPECT_EQ(Step(), "P 32");
  EXPECT_EQ(Step(), "D 32");
  EXPECT_EQ(Step(), "D 1");
}

// Prompts have more room than decodes.
TEST_F(Routes, EachHasItsBoundOfTokens) {
  scheduler_.Resize({.global_blocks = 128,
                     .window_blocks = 64,
                     .micro_batches = 1,
                     .prefill_micro_batches = 2,
                     .max_tokens = 64,
                     .max_decode_tokens = 5});
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(64, 60)).ok());
  GenerationRequest constrained = SmallRequest(3, 200);
  constrained.sampling.constraint =
      std::make_shared<const Constraint>(Constraint{.grammar = "root ::= .*", .stop_tokens = {1}});
  ASSERT_TRUE(scheduler_.Add(2, constrained).ok());
  EXPECT_EQ(Step(), "P 64");
  EXPECT_EQ(Step(), "D 1");
  EXPECT_EQ(Schedule(), "P 3");
  EXPECT_THAT(plans_.back().micro_batch_ends, IsEmpty());
  Answer(std::vector<std::int32_t>(7, 7));
  // Of eight tokens those that have room beside the other request's one.
  EXPECT_EQ(Step(), "D 1 4");
  EXPECT_EQ(Step(), "D 1 4");
  EXPECT_EQ(Step(), "D 1 1");
}

TEST_F(Routes, ABoundThatDecodesDoNotFitIsRefused) {
  SchedulerOptions options = Options(1);
  options.limits.max_decode_tokens = 4;
  EXPECT_TRUE(ValidateSchedulerOptions(options).ok());
  for (const std::int32_t wrong : {-1, 3, 33}) {
    options.limits.max_decode_tokens = wrong;
    EXPECT_THAT(std::string(ValidateSchedulerOptions(options).message()),
                HasSubstr("limits.max_decode_tokens: expected 4 to 32"));
  }
}

TEST_F(Routes, APlanWithOneRouteMixes) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(3, 60)).ok());
  EXPECT_EQ(Step(), "P 3");
  scheduler_.Reset({0, absl::UnavailableError("the plan changes")});
  scheduler_.Resize(
      {.global_blocks = 128, .window_blocks = 64, .micro_batches = 1, .max_tokens = 32});
  EXPECT_EQ(Step(), "D 4");
  ASSERT_TRUE(scheduler_.Add(2, SmallRequest(20, 60)).ok());
  EXPECT_EQ(Step(), "D 1 8");
  EXPECT_EQ(Step(), "D 1 8");
}

// Placeholders let a decode step be sent before the last one's tokens are back.
class RoutesAhead : public Routes {
 protected:
  RoutesAhead() : Routes(3) {}
};

TEST_F(RoutesAhead, StepsInFlightTakeTurns) {
  ASSERT_TRUE(scheduler_.Add(1, SmallRequest(3, 60)).ok());
  ASSERT_TRUE(scheduler_.Add(2, SmallRequest(100, 60)).ok());
  EXPECT_EQ(Schedule(), "P 3 29");
  EXPECT_EQ(Schedule(), "D 1");
  EXPECT_EQ(Schedule(), "P 8");
  EXPECT_EQ(Schedule(), "none");
  for (int i = 0; i < 5; ++i) {
    Answer();
    EXPECT_EQ(Schedule(), "D 1");
    Answer();
    EXPECT_EQ(Schedule(), "P 8");
  }
}

}  // namespace
}  // namespace tandem
