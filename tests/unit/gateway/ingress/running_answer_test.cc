#include "gateway/ingress/answer/running_answer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "tests/unit/gateway/ingress/fake_engine.h"

namespace tandem {
namespace {

class RunningAnswerTest : public ::testing::Test {
 protected:
  std::unique_ptr<RunningAnswer> Begin(AnswerSpec spec) {
    if (spec.request.prompt.empty()) spec.request.prompt = {2, Id("Hello")};
    if (spec.request.max_tokens == 0) spec.request.max_tokens = 8;
    auto answer = RunningAnswer::Create(engine_, TestTokenizer(), std::move(spec));
    EXPECT_TRUE(answer.ok());
    EXPECT_TRUE((*answer)->Start([this] { ++wakes_; }).ok());
    return *std::move(answer);
  }

  FakeEngine engine_;
  std::atomic<int> wakes_ = 0;
};

TEST_F(RunningAnswerTest, WakesOncePerTakeAndGivesAllThatCame) {
  auto answer = Begin({});
  EXPECT_FALSE(answer->Take().begun);
  engine_.Tokens(1, {Id("Hello"), Id("\u2581wor"), Id("ld")});
  EXPECT_EQ(wakes_, 1);
  RunningAnswer::Update update = answer->Take();
  EXPECT_TRUE(update.begun);
  EXPECT_FALSE(update.finished);
  EXPECT_EQ(update.text, "Hello world");
  engine_.Finish(1, FinishReason::kLength);
  EXPECT_EQ(wakes_, 2);
  update = answer->Take();
  EXPECT_TRUE(update.finished);
  EXPECT_EQ(update.reason, FinishReason::kLength);
  EXPECT_EQ(answer->completion_tokens(), 3);
  EXPECT_EQ(answer->prompt_tokens(), 2);
}

TEST_F(RunningAnswerTest, AStopStringCancelsTheEngine) {
  AnswerSpec spec;
  spec.stops = {"wor"};
  auto answer = Begin(std::move(spec));
  engine_.Tokens(1, {Id("Hello"), Id("\u2581world"), Id("!")});
  const RunningAnswer::Update update = answer->Take();
  EXPECT_TRUE(update.finished);
  EXPECT_EQ(update.reason, FinishReason::kStop);
  EXPECT_EQ(update.text, "Hello ");
  EXPECT_EQ(answer->completion_tokens(), 2);
  engine_.WaitForCancel(1);
  EXPECT_FALSE(answer->Take().finished);  // only once
}

TEST_F(RunningAnswerTest, TheEndOfTurnEndsIt) {
  AnswerSpec spec;
  spec.stop_token = Id("<end_of_turn>");
  auto answer = Begin(spec);
  engine_.Tokens(1, {Id("!"), Id("<end_of_turn>")});
  const RunningAnswer::Update update = answer->Take();
  EXPECT_EQ(update.text, "!");
  EXPECT_EQ(update.reason, FinishReason::kStop);
  EXPECT_EQ(answer->completion_tokens(), 1);
  engine_.WaitForCancel(1);

  spec.request.ignore_eos = true;
  auto ignoring = Begin(spec);
  engine_.Tokens(2, {Id("!"), Id("<end_of_turn>")});
  EXPECT_FALSE(ignoring->Take().finished);
}

TEST_F(RunningAnswerTest, LeavingCancels) {
  Begin({}).reset();
  engine_.WaitForCancel(1);
  EXPECT_EQ(wakes_, 0);
}

TEST_F(RunningAnswerTest, AnEngineErrorIsPassedOn) {
  auto answer = Begin({});
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kError, absl::UnavailableError("gpu0 is gone"));
  const RunningAnswer::Update update = answer->Take();
  EXPECT_TRUE(update.finished);
  EXPECT_EQ(update.status, absl::UnavailableError("gpu0 is gone"));
  EXPECT_EQ(update.text, "!");
}

TEST_F(RunningAnswerTest, NoTokensWantedAsksTheEngineForNothing) {
  AnswerSpec spec;
  spec.request.prompt = {2, Id("Hello")};
  spec.echo = true;
  auto answer = RunningAnswer::Create(engine_, TestTokenizer(), std::move(spec));
  ASSERT_TRUE(answer.ok());
  ASSERT_TRUE((*answer)->Start([this] { ++wakes_; }).ok());
  EXPECT_EQ(wakes_, 1);
  const RunningAnswer::Update update = (*answer)->Take();
  EXPECT_EQ(update.text, "Hello");
  EXPECT_TRUE(update.finished);
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(RunningAnswerTest, AReaderThatFallsFarBehindLosesTheRequest) {
  auto answer = Begin({});
  for (std::size_t i = 0; i <= TokenMailbox::kMaxWaiting; ++i) engine_.Tokens(1, {Id("!")});
  const RunningAnswer::Update update = answer->Take();
  EXPECT_TRUE(update.finished);
  EXPECT_TRUE(absl::IsResourceExhausted(update.status));
  engine_.WaitForCancel(1);
}

TEST_F(RunningAnswerTest, ARefusedStartCanBeTriedAgain) {
  AnswerSpec spec;
  spec.request.prompt = {2};
  spec.request.max_tokens = 1;
  auto answer = RunningAnswer::Create(engine_, TestTokenizer(), std::move(spec));
  ASSERT_TRUE(answer.ok());
  engine_.SetQueue(0);
  EXPECT_TRUE(absl::IsResourceExhausted((*answer)->Start([] {})));
  engine_.SetQueue(1);
  EXPECT_TRUE((*answer)->Start([] {}).ok());
  EXPECT_EQ(engine_.WaitForRequest(1).prompt, std::vector<std::int32_t>{2});
}

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() {
    serving_.model.id = "m";
    serving_.model.tokenizer = TestTokenizer();
    serving_.engine = &engine_;
  }
  absl::StatusOr<AnswerSpec> Plan(std::vector<std::int32_t> prompt, InferenceRequest request) {
    request.prompts.emplace_back(std::move(prompt));
    auto answers = PlanAnswers(serving_, request);
    if (!answers.ok()) return answers.status();
    EXPECT_EQ(answers->size(), 1u);
    return answers->front();
  }
  absl::StatusOr<AnswerSpec> Plan(std::size_t prompt_tokens, const InferenceRequest& request) {
    return Plan(std::vector<std::int32_t>(prompt_tokens, 2), request);
  }

  FakeEngine engine_;  // a context of 512
  Serving serving_;
};

TEST_F(PlanTest, MaxTokensFollowTheContext) {
  EXPECT_EQ(Plan(12, {})->request.max_tokens, 500);
  EXPECT_EQ(Plan(511, {})->request.max_tokens, 1);
  EXPECT_FALSE(Plan(512, {}).ok());
  InferenceRequest options;
  options.default_max_tokens = 16;
  EXPECT_EQ(Plan(12, options)->request.max_tokens, 16);
  EXPECT_EQ(Plan(510, options)->request.max_tokens, 2);
  options.max_tokens = 500;
  EXPECT_EQ(Plan(12, options)->request.max_tokens, 500);
  EXPECT_FALSE(Plan(13, options).ok());
  options.max_tokens = 0;
  EXPECT_TRUE(Plan(512, options).ok());
  EXPECT_FALSE(Plan(513, options).ok());
}

TEST_F(PlanTest, ChecksTokensAndBias) {
  EXPECT_FALSE(Plan(0, {}).ok());
  EXPECT_FALSE(Plan({2, 1 << 20}, {}).ok());
  InferenceRequest options;
  options.sampling.logit_bias = {{1 << 20, 1.0f}};
  EXPECT_FALSE(Plan(1, options).ok());
}

TEST_F(PlanTest, ScoresThePromptOnlyForEchoWithLogprobs) {
  InferenceRequest options;
  options.echo = true;
  EXPECT_FALSE(Plan(3, options)->request.score_prompt);
  options.sampling.num_logprobs = 0;
  EXPECT_TRUE(Plan(3, options)->request.score_prompt);
  EXPECT_FALSE(Plan(1, options)->request.score_prompt);
  options.echo = false;
  EXPECT_FALSE(Plan(3, options)->request.score_prompt);
}

}  // namespace
}  // namespace tandem
