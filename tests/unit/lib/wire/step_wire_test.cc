#include "lib/wire/step_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(StepWire, NoStepWaitsLongerThanADay) {
  v1::StepPlan message;
  message.set_timeout_seconds(600284797690.9746);
  EXPECT_EQ(FromProto(message).timeout, absl::Hours(24));
  message.set_timeout_seconds(std::nan(""));
  EXPECT_EQ(FromProto(message).timeout, absl::Hours(24));
}

TEST(StepWire, PlanThereAndBack) {
  StepPlan plan;
  plan.step_id = 9;
  plan.ends = {1, 2};
  SequenceStart start;
  start.slot = 3;
  start.sampling.seed = 77;
  start.sampling.logit_bias = {{4, 1.5f}};
  start.sampling.constraint = std::make_shared<const Constraint>(
      Constraint{.grammar = "root ::= \"a\"", .stop_tokens = {1, 9}});
  start.generated = {5, 6};
  plan.starts.push_back(start);
  plan.sequences.push_back({.slot = 3,
                            .first_position = 16,
                            .tokens = {8, -1},
                            .new_global_blocks = {10},
                            .new_window_blocks = {11, 12},
                            .window_blocks_left = 1,
                            .sample = true,
                            .score = true,
                            .next_token = 13,
                            .pool = true});
  plan.generation = 5;
  plan.timeout = absl::Seconds(3);
  plan.micro_batch_ends = {1, 2};
  plan.route = 1;
  const v1::StepPlan message = ToProto(plan);
  EXPECT_EQ(message.generation(), 5u);
  EXPECT_EQ(message.timeout_seconds(), 3);
  const StepPlan back = FromProto(message);
  EXPECT_EQ(back.step_id, 9u);
  EXPECT_EQ(back.generation, 5u);
  EXPECT_EQ(back.timeout, absl::Seconds(3));
  EXPECT_THAT(back.micro_batch_ends, ElementsAre(1, 2));
  EXPECT_EQ(back.route, 1);
  EXPECT_THAT(back.ends, ElementsAre(1, 2));
  ASSERT_THAT(back.starts, SizeIs(1));
  EXPECT_EQ(back.starts[0].sampling.seed, 77u);
  EXPECT_EQ(back.starts[0].sampling.logit_bias, start.sampling.logit_bias);
  ASSERT_NE(back.starts[0].sampling.constraint, nullptr);
  EXPECT_EQ(*back.starts[0].sampling.constraint, *start.sampling.constraint);
  EXPECT_THAT(back.starts[0].generated, ElementsAre(5, 6));
  ASSERT_THAT(back.sequences, SizeIs(1));
  const SequenceShare& share = back.sequences[0];
  EXPECT_EQ(share.first_position, 16);
  EXPECT_THAT(share.tokens, ElementsAre(8, -1));
  EXPECT_THAT(share.new_global_blocks, ElementsAre(10));
  EXPECT_THAT(share.new_window_blocks, ElementsAre(11, 12));
  EXPECT_EQ(share.window_blocks_left, 1);
  EXPECT_TRUE(share.sample && share.score && share.pool);
  EXPECT_EQ(share.next_token, 13);
}

TEST(StepWire, ResultThereAndBack) {
  StepResult result;
  result.step_id = 4;
  SequenceResult sequence;
  sequence.slot = 2;
  sequence.sampled = SampledToken{7, -0.5f, {{7, -0.5f}, {8, -1.0f}}};
  sequence.forced = {5, 6};
  sequence.scored = {SampledToken{9, -2.0f, {}}};
  sequence.pooled = {0.25, -3};
  result.sequences.push_back(sequence);
  // Nothing of what stood there before is left.
  StepResult back;
  back.status = absl::InternalError("old");
  back.sequences.resize(3);
  back.sequences[0].status = absl::InternalError("old");
  back.sequences[0].scored.resize(5);
  back.sequences[0].pooled.resize(5);
  ASSERT_TRUE(FromProto(ToProto(result), 100, &back).ok());
  ASSERT_FALSE(back.sequences.empty());
  EXPECT_THAT(back.sequences[0].forced, ElementsAre(5, 6));
  EXPECT_EQ(back.step_id, 4u);
  EXPECT_TRUE(back.status.ok());
  ASSERT_THAT(back.sequences, SizeIs(1));
  EXPECT_TRUE(back.sequences[0].status.ok());
  EXPECT_EQ(back.sequences[0].sampled->token, 7);
  EXPECT_THAT(back.sequences[0].sampled->top, SizeIs(2));
  ASSERT_THAT(back.sequences[0].scored, SizeIs(1));
  EXPECT_EQ(back.sequences[0].scored[0].logprob, -2.0f);
  EXPECT_THAT(back.sequences[0].pooled, ElementsAre(0.25, -3));
  EXPECT_THAT(std::string(FromProto(ToProto(result), 9, &back).message()),
              HasSubstr("sequences[0]: SampledToken.token"));
  result.sequences[0].pooled[1] = INFINITY;
  EXPECT_THAT(std::string(FromProto(ToProto(result), 100, &back).message()),
              HasSubstr("sequences[0]: pooled"));
}

TEST(StepWire, StatusOfAResultAndOfItsSequences) {
  v1::StepResult message;
  StepResult back;
  EXPECT_TRUE(FromProto(message, 10, &back).ok() && back.status.ok());
  message.set_code(14);
  message.set_error("gone");
  ASSERT_TRUE(FromProto(message, 10, &back).ok());
  EXPECT_EQ(back.status, absl::UnavailableError("gone"));
  message.set_code(99);
  ASSERT_TRUE(FromProto(message, 10, &back).ok());
  EXPECT_EQ(back.status.code(), absl::StatusCode::kUnknown);

  StepResult result;
  result.sequences.resize(2);
  result.sequences[1].status = absl::InternalError("not a number");
  ASSERT_TRUE(FromProto(ToProto(result), 10, &back).ok());
  EXPECT_TRUE(back.sequences[0].status.ok());
  EXPECT_EQ(back.sequences[1].status, result.sequences[1].status);
}

}  // namespace
}  // namespace tandem
