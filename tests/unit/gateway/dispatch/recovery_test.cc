#include "gateway/dispatch/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = RecoveryAction::Kind;
using StepState = Recovery::StepState;

class RecoveryTest : public ::testing::Test {
 protected:
  RecoveryTest() : recovery_(Options(), PlanOf("split", {1, 1})) {}

  static SharedPlan PlanOf(std::string name, std::vector<std::uint8_t> members) {
    auto plan = std::make_shared<ClusterPlan>();
    plan->name = std::move(name);
    plan->members = std::move(members);
    return plan;
  }

  static RecoveryOptions Options() {
    RecoveryOptions options;
    options.workers = {"gpu0", "npu0"};
    options.min_backoff = absl::Milliseconds(100);
    options.max_backoff = absl::Milliseconds(300);
    return options;
  }

  std::vector<Kind> Kinds() {
    std::vector<Kind> kinds;
    recovery_.TakeActions(&actions_);
    for (const RecoveryAction& action : actions_) kinds.push_back(action.kind);
    return kinds;
  }

  void AllReply(ClusterPhase phase) {
    recovery_.OnReply(recovery_.round(), phase, 0, absl::OkStatus(), now_);
    recovery_.OnReply(recovery_.round(), phase, 1, absl::OkStatus(), now_);
  }

  void BringUp() {
    recovery_.OnLoaded(recovery_.round(), absl::OkStatus(), now_);
    AllReply(ClusterPhase::kDescribing);
    AllReply(ClusterPhase::kPreparing);
    AllReply(ClusterPhase::kConnecting);
  }

  void AdvanceToDeadline() {
    now_ = *recovery_.next_deadline();
    recovery_.OnTime(now_);
  }

  Recovery recovery_;
  std::vector<RecoveryAction> actions_;
  absl::Duration now_ = absl::Seconds(1000);
};

TEST_F(RecoveryTest, ComesUpPhaseByPhase) {
  recovery_.Start(now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kLoad));
  EXPECT_FALSE(recovery_.accepting());
  recovery_.OnLoaded(1, absl::OkStatus(), now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kDescribe));
  recovery_.RaiseGeneration(8);
  recovery_.OnReply(1, ClusterPhase::kDescribing, 1, absl::OkStatus(), now_);
  EXPECT_EQ(recovery_.Pending(), "gpu0");
  recovery_.OnReply(1, ClusterPhase::kDescribing, 0, absl::OkStatus(), now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kPrepare));
  EXPECT_EQ(recovery_.generation(), 9u);
  AllReply(ClusterPhase::kPreparing);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kConnect));
  AllReply(ClusterPhase::kConnecting);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kServe));
  EXPECT_TRUE(recovery_.serving());
  EXPECT_TRUE(recovery_.accepting());
  EXPECT_FALSE(recovery_.next_deadline().has_value());
}

TEST_F(RecoveryTest, FailuresBackOffFurtherAndFurther) {
  recovery_.Start(now_);
  std::vector<absl::Duration> pauses;
  for (int i = 0; i < 4; ++i) {
    recovery_.OnLoaded(recovery_.round(), absl::UnavailableError("no loader"), now_);
    pauses.push_back(*recovery_.next_deadline() - now_);
    AdvanceToDeadline();
  }
  EXPECT_THAT(pauses, ElementsAre(absl::Milliseconds(100), absl::Milliseconds(200),
                                  absl::Milliseconds(300), absl::Milliseconds(300)));
  EXPECT_EQ(recovery_.round(), 5u);
  EXPECT_THAT(std::string(recovery_.last_failure().message()), HasSubstr("loader: no loader"));
}

TEST_F(RecoveryTest, AnAnswerOfAnAbandonedRoundIsIgnored) {
  recovery_.Start(now_);
  recovery_.OnLoaded(1, absl::OkStatus(), now_);
  recovery_.OnReply(1, ClusterPhase::kDescribing, 0, absl::UnavailableError("refused"), now_);
  EXPECT_THAT(std::string(recovery_.last_failure().message()),
              HasSubstr("gpu0: describing: refused"));
  AdvanceToDeadline();
  recovery_.OnLoaded(1, absl::OkStatus(), now_);
  EXPECT_EQ(recovery_.phase(), ClusterPhase::kLoading);
  recovery_.OnLoaded(2, absl::OkStatus(), now_);
  recovery_.OnReply(1, ClusterPhase::kDescribing, 0, absl::OkStatus(), now_);
  recovery_.OnReply(2, ClusterPhase::kPreparing, 0, absl::OkStatus(), now_);
  recovery_.OnReply(2, ClusterPhase::kDescribing, 1, absl::OkStatus(), now_);
  EXPECT_EQ(recovery_.phase(), ClusterPhase::kDescribing);
}

TEST_F(RecoveryTest, SilenceEndsAPhase) {
  recovery_.Start(now_);
  recovery_.OnLoaded(1, absl::OkStatus(), now_);
  Kinds();
  AdvanceToDeadline();
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kAbandon));
  EXPECT_THAT(std::string(recovery_.last_failure().message()),
              HasSubstr("no answer in time from gpu0, npu0"));
}

TEST_F(RecoveryTest, AStepNeedsEveryAnswer) {
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  EXPECT_EQ(recovery_.OnStepReply(1, 0, 1, absl::OkStatus(), now_), StepState::kPending);
  EXPECT_EQ(recovery_.OnStepReply(7, 1, 1, absl::OkStatus(), now_), StepState::kIgnored);
  EXPECT_EQ(recovery_.OnStepReply(1, 1, 1, absl::OkStatus(), now_), StepState::kComplete);
  EXPECT_EQ(recovery_.steps_running(), 0u);
  recovery_.StepStarted(2, now_);
  EXPECT_EQ(recovery_.OnStepReply(1, 1, 1, absl::OkStatus(), now_), StepState::kFailed);
  EXPECT_FALSE(recovery_.serving());
  EXPECT_EQ(recovery_.recoveries(), 1u);
}

TEST_F(RecoveryTest, StepsOfAWindowCompleteInOrder) {
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  recovery_.StepStarted(2, now_);
  recovery_.StepStarted(3, now_);
  EXPECT_EQ(recovery_.steps_running(), 3u);
  EXPECT_EQ(recovery_.OnStepReply(1, 0, 1, absl::OkStatus(), now_), StepState::kPending);
  EXPECT_EQ(recovery_.OnStepReply(1, 0, 2, absl::OkStatus(), now_), StepState::kPending);
  EXPECT_EQ(recovery_.OnStepReply(1, 1, 1, absl::OkStatus(), now_), StepState::kComplete);
  EXPECT_EQ(recovery_.OnStepReply(1, 1, 2, absl::OkStatus(), now_), StepState::kComplete);
  EXPECT_EQ(recovery_.steps_running(), 1u);
  // An answer out of order, or to a step that was never sent, is a failure of no step in
  // particular.
  EXPECT_EQ(recovery_.OnStepReply(1, 1, 4, absl::OkStatus(), now_), StepState::kFailed);
  EXPECT_THAT(Kinds(), Contains(Kind::kAbandon));
  EXPECT_EQ(actions_.back().step_id, 0u);
  EXPECT_EQ(recovery_.steps_running(), 0u);
}

TEST_F(RecoveryTest, AFailedStepIsNamed) {
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  recovery_.StepStarted(2, now_);
  recovery_.OnStepReply(1, 0, 1, absl::OkStatus(), now_);
  EXPECT_EQ(recovery_.OnStepReply(1, 0, 2, absl::InternalError("bad"), now_), StepState::kFailed);
  Kinds();
  EXPECT_EQ(actions_.back().step_id, 2u);
  EXPECT_EQ(actions_.back().status.code(), absl::StatusCode::kInternal);
}

TEST_F(RecoveryTest, AStepThatIsNotAnsweredIsAFailure) {
  recovery_.Start(now_);
  BringUp();
  Kinds();
  recovery_.StepStarted(1, now_);
  recovery_.OnStepReply(1, 0, 1, absl::OkStatus(), now_);
  AdvanceToDeadline();
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kAbandon));
  EXPECT_EQ(actions_.back().step_id, 1u);
  EXPECT_THAT(std::string(recovery_.last_failure().message()),
              HasSubstr("step 1: no answer in time from npu0"));
}

TEST_F(RecoveryTest, TheTimeOfAStepBeginsWhenTheOneBeforeItIsComplete) {
  const absl::Duration whole = Options().step_timeout + Options().grace;
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  recovery_.StepStarted(2, now_);
  EXPECT_EQ(*recovery_.next_deadline(), now_ + whole);
  now_ += whole / 2;
  recovery_.OnStepReply(1, 0, 1, absl::OkStatus(), now_);
  recovery_.OnStepReply(1, 0, 2, absl::OkStatus(), now_);
  recovery_.OnStepReply(1, 1, 1, absl::OkStatus(), now_);
  EXPECT_EQ(*recovery_.next_deadline(), now_ + whole);
  AdvanceToDeadline();
  EXPECT_THAT(std::string(recovery_.last_failure().message()),
              HasSubstr("step 2: no answer in time from npu0"));
}

// Serving for a moment is not being back: else requests wait for ever while a worker dies again and
// again before its first step.
TEST_F(RecoveryTest, ServingWithoutAStepDoesNotEndTheOutage) {
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  const absl::Duration lost = now_;
  recovery_.OnStreamBroken(recovery_.round(), 1, absl::UnavailableError("reset"), now_);
  int gave_up = 0;
  while (now_ < lost + Options().recovery_timeout + absl::Seconds(3)) {
    AdvanceToDeadline();
    for (const Kind kind : Kinds()) gave_up += kind == Kind::kGiveUp ? 1 : 0;
    if (recovery_.phase() != ClusterPhase::kLoading) continue;
    BringUp();
    recovery_.OnStreamBroken(recovery_.round(), 1, absl::UnavailableError("reset"), now_);
  }
  EXPECT_EQ(gave_up, 1);
}

TEST_F(RecoveryTest, AnOutageBeginsAnewAfterALongQuietTime) {
  recovery_.Start(now_);
  BringUp();
  recovery_.OnStreamBroken(recovery_.round(), 1, absl::UnavailableError("reset"), now_);
  AdvanceToDeadline();
  BringUp();
  now_ += absl::Hours(1);
  recovery_.OnStreamBroken(recovery_.round(), 1, absl::UnavailableError("reset"), now_);
  AdvanceToDeadline();
  EXPECT_TRUE(recovery_.accepting());
}

TEST_F(RecoveryTest, GivesUpOnceAndComesBack) {
  recovery_.Start(now_);
  BringUp();
  recovery_.OnStreamBroken(1, 1, absl::UnavailableError("reset"), now_);
  Kinds();
  EXPECT_TRUE(recovery_.accepting());
  int gave_up = 0;
  for (int i = 0; i < 300 && now_ < absl::Seconds(1100); ++i) {
    AdvanceToDeadline();
    for (const Kind kind : Kinds()) gave_up += kind == Kind::kGiveUp ? 1 : 0;
    if (recovery_.phase() == ClusterPhase::kLoading) {
      recovery_.OnLoaded(recovery_.round(), absl::UnavailableError("gone"), now_);
    }
  }
  EXPECT_EQ(gave_up, 1);
  EXPECT_FALSE(recovery_.accepting());
  while (recovery_.phase() != ClusterPhase::kLoading) AdvanceToDeadline();
  BringUp();
  EXPECT_TRUE(recovery_.accepting());
  EXPECT_EQ(recovery_.generation(), 2u);
}

TEST_F(RecoveryTest, AChangeOfThePlanWaitsForTheStepsThatRun) {
  recovery_.Start(now_);
  BringUp();
  recovery_.StepStarted(1, now_);
  recovery_.StepStarted(2, now_);
  Kinds();
  ASSERT_TRUE(recovery_.ChangePlan(PlanOf("gpu", {1, 0})).ok());
  EXPECT_FALSE(recovery_.may_send());
  EXPECT_TRUE(recovery_.serving());
  const absl::Status second = recovery_.ChangePlan(PlanOf("npu", {0, 1}));
  EXPECT_TRUE(absl::IsFailedPrecondition(second));
  EXPECT_THAT(std::string(second.message()), HasSubstr("'gpu' is in progress"));
  for (std::uint64_t step = 1; step <= 2; ++step) {
    recovery_.ContinueChange(now_);
    EXPECT_THAT(Kinds(), ElementsAre());
    recovery_.OnStepReply(1, 0, step, absl::OkStatus(), now_);
    recovery_.OnStepReply(1, 1, step, absl::OkStatus(), now_);
  }
  recovery_.ContinueChange(now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kLeave, Kind::kLoad));
  EXPECT_EQ(actions_[0].plan->name, "split");
  EXPECT_EQ(actions_[1].plan->name, "gpu");
  EXPECT_FALSE(recovery_.serving());
  EXPECT_TRUE(recovery_.accepting());
}

TEST_F(RecoveryTest, OnlyTheWorkersOfThePlanTakePart) {
  recovery_.Start(now_);
  BringUp();
  ASSERT_TRUE(recovery_.ChangePlan(PlanOf("gpu", {1, 0})).ok());
  recovery_.ContinueChange(now_);
  recovery_.OnLoaded(2, absl::OkStatus(), now_);
  EXPECT_EQ(recovery_.Pending(), "gpu0");
  for (const ClusterPhase phase :
       {ClusterPhase::kDescribing, ClusterPhase::kPreparing, ClusterPhase::kConnecting})
    recovery_.OnReply(2, phase, 0, absl::OkStatus(), now_);
  EXPECT_TRUE(recovery_.serving());
  EXPECT_TRUE(recovery_.may_send());
  EXPECT_FALSE(recovery_.changing());
  EXPECT_EQ(recovery_.generation(), 2u);
  EXPECT_EQ(Kinds().back(), Kind::kChangeEnded);
  EXPECT_TRUE(actions_.back().status.ok());
  recovery_.StepStarted(1, now_);
  EXPECT_EQ(recovery_.OnStepReply(2, 0, 1, absl::OkStatus(), now_), StepState::kComplete);
  // Nothing was lost.
  EXPECT_EQ(recovery_.recoveries(), 0u);
}

TEST_F(RecoveryTest, APlanThatDoesNotComeToServeIsTakenBack) {
  recovery_.Start(now_);
  BringUp();
  ASSERT_TRUE(recovery_.ChangePlan(PlanOf("npu", {0, 1})).ok());
  recovery_.ContinueChange(now_);
  recovery_.OnLoaded(2, absl::OkStatus(), now_);
  recovery_.OnReply(2, ClusterPhase::kDescribing, 1, absl::OkStatus(), now_);
  Kinds();
  recovery_.OnReply(2, ClusterPhase::kPreparing, 1, absl::ResourceExhaustedError("no room"), now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kAbandon, Kind::kChangeEnded));
  EXPECT_EQ(actions_[1].plan->name, "npu");
  EXPECT_THAT(std::string(actions_[1].status.message()), HasSubstr("npu0: preparing: no room"));
  EXPECT_FALSE(recovery_.changing());
  EXPECT_FALSE(recovery_.start_refused());
  AdvanceToDeadline();
  EXPECT_EQ(recovery_.plan()->name, "split");
  BringUp();
  EXPECT_TRUE(recovery_.serving());
  EXPECT_EQ(recovery_.recoveries(), 0u);
}

TEST_F(RecoveryTest, AnOutageUnderTheOldPlanAfterAFailedChangeEnds) {
  recovery_.Start(now_);
  BringUp();
  ASSERT_TRUE(recovery_.ChangePlan(PlanOf("npu", {0, 1})).ok());
  recovery_.ContinueChange(now_);
  EXPECT_FALSE(recovery_.gave_up());
  recovery_.OnLoaded(2, absl::UnavailableError("no loader"), now_);
  const absl::Duration end = now_ + Options().recovery_timeout;
  while (now_ < end) {
    AdvanceToDeadline();
    recovery_.OnLoaded(recovery_.round(), absl::UnavailableError("no loader"), now_);
  }
  EXPECT_TRUE(recovery_.gave_up());
}

TEST_F(RecoveryTest, AnotherPlanRescuesAClusterWhoseWorkerIsGone) {
  recovery_.Start(now_);
  BringUp();
  recovery_.OnStreamBroken(1, 0, absl::UnavailableError("gone"), now_);
  Kinds();
  ASSERT_TRUE(recovery_.ChangePlan(PlanOf("npu", {0, 1})).ok());
  recovery_.ContinueChange(now_);
  EXPECT_THAT(Kinds(), ElementsAre(Kind::kLeave, Kind::kLoad));
  recovery_.OnLoaded(2, absl::OkStatus(), now_);
  for (const ClusterPhase phase :
       {ClusterPhase::kDescribing, ClusterPhase::kPreparing, ClusterPhase::kConnecting})
    recovery_.OnReply(2, phase, 1, absl::OkStatus(), now_);
  EXPECT_TRUE(recovery_.serving());
  EXPECT_EQ(recovery_.plan()->name, "npu");
}

}  // namespace
}  // namespace tandem
