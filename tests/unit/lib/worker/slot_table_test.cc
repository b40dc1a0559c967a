#include "lib/worker/slot_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "lib/model/plan.h"
#include "lib/wire/step_wire.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SlotBounds Bounds() {
  return {SmallConfig(),
          {.max_tokens = 64, .max_sequences = 4, .max_logit_rows = 8, .max_blocks_per_sequence = 4},
          40,
          30,
          3,
          /*head=*/true};
}

class SlotTableTest : public testing::Test {
 protected:
  // Slot 0 stands at position 20 with two blocks, its last token sampled.
  void SetUp() override {
    table_ = SlotTable(Bounds());
    planner_ = SlotPlanner(SmallConfig(), 0, 5);
    v1::StepPlan step = NewStep(1, 1);
    planner_.Start(&step);
    planner_.Add(&step, std::vector<std::int32_t>(20, 3))->set_sample(true);
    ASSERT_TRUE(Apply(step).ok());
    table_.SetSampled(0, 99);
  }
  absl::Status Apply(const v1::StepPlan& step) {
    return table_.Apply(FromProto(step), &batch_, &result_);
  }
  // The only share's status, after a step that as a whole was fine.
  absl::Status ShareStatus(const v1::StepPlan& step) {
    const absl::Status whole = Apply(step);
    EXPECT_TRUE(whole.ok()) << whole;
    if (result_.sequences.size() != 1) return absl::UnknownError("not one result");
    return result_.sequences[0].status;
  }
  SlotTable table_{Bounds()};
  SlotPlanner planner_{SmallConfig(), 0, 5};
  StepBatch batch_;
  StepResult result_;
};

TEST_F(SlotTableTest, FillsTheBatch) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {-1})->set_sample(true);
  SlotPlanner other(SmallConfig(), 3, 20);
  other.Start(&step);
  v1::SequenceShare* scored = other.Add(&step, {7, 8, 9});
  scored->set_score(true);
  scored->set_next_token(10);
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_EQ(batch_.id, 2u);
  EXPECT_THAT(batch_.tokens, ElementsAre(99, 7, 8, 9));
  ASSERT_EQ(batch_.sequences.size(), 2u);
  EXPECT_EQ(batch_.sequences[0].first_position, 20);
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(5, 6));
  EXPECT_EQ(batch_.sequences[1].slot, 3);
  EXPECT_EQ(batch_.sequences[1].first_token, 1);
  EXPECT_EQ(batch_.sequences[1].num_tokens, 3);
  EXPECT_THAT(batch_.sequences[1].window_blocks, ElementsAre(20));
  EXPECT_THAT(batch_.logit_rows, ElementsAre(0, 1, 2, 3));
  ASSERT_EQ(batch_.uses.size(), 4u);
  EXPECT_TRUE(batch_.uses[0].sample);
  EXPECT_EQ(batch_.uses[0].position, 21);
  EXPECT_EQ(batch_.uses[1].score, 8);
  EXPECT_EQ(batch_.uses[3].score, 10);
  EXPECT_FALSE(batch_.uses[3].sample);
}

TEST_F(SlotTableTest, DecodesHaveABoundOfTheirOwn) {
  SlotBounds bounds = Bounds();
  bounds.limits.max_decode_tokens = 4;
  table_ = SlotTable(bounds);
  SlotPlanner planner(SmallConfig(), 0, 5);
  v1::StepPlan step = NewStep(1, 1);
  planner.Start(&step);
  planner.Add(&step, {1, 2, 3, 4, 5});
  EXPECT_THAT(std::string(Apply(step).message()), HasSubstr("expected at most 4 tokens, found 5"));
  step.set_route(kPrefillRoute);
  EXPECT_TRUE(Apply(step).ok());
}

TEST_F(SlotTableTest, TheLastRowIsNotScoredWithoutANextToken) {
  v1::StepPlan step = NewStep(2, 1);
  v1::SequenceShare* share = planner_.Add(&step, {1, 2});
  share->set_score(true);
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_THAT(batch_.logit_rows, ElementsAre(0));
  EXPECT_EQ(batch_.uses[0].score, 2);
}

TEST_F(SlotTableTest, WindowBlocksThatLeftAreGone) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step,
               std::vector<std::int32_t>(20, 1));  // 20 to 39; the query at 20 sees 3 and later
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_THAT(batch_.sequences[0].window_blocks, ElementsAre(5, 6, 7));
  step = NewStep(3, 1);
  planner_.Add(&step, {1});  // 40 sees 23 and later
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_THAT(batch_.sequences[0].window_blocks, ElementsAre(kNoBlock, 6, 7));
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(5, 6, 7));
}

TEST_F(SlotTableTest, CountsReplayedAndSampledTokens) {
  v1::StepPlan step = NewStep(2, 1);
  SlotPlanner other(SmallConfig(), 1, 20);
  v1::SequenceStart* start = other.Start(&step);
  for (const std::int32_t token : {4, 4, 2}) start->add_generated(token);
  other.Add(&step, {1})->set_sample(true);
  ASSERT_TRUE(Apply(step).ok());
  table_.SetSampled(1, 4);
  EXPECT_THAT(table_.counts(1).counts(), ElementsAre(std::pair(2, 1), std::pair(4, 3)));
  EXPECT_THAT(table_.counts(0).counts(), ElementsAre(std::pair(99, 1)));
}

TEST_F(SlotTableTest, ASlotMayEndAndStartInOneStep) {
  v1::StepPlan step = NewStep(2, 1);
  step.add_ends(0);
  SlotPlanner again(SmallConfig(), 0, 11);
  again.Start(&step);
  again.Add(&step, {1});
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_EQ(batch_.sequences[0].first_position, 0);
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(11));
  EXPECT_TRUE(table_.counts(0).counts().empty());
}

TEST_F(SlotTableTest, AStepMayOnlyEndSlots) {
  v1::StepPlan step = NewStep(2, 1);
  step.add_ends(0);
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_TRUE(batch_.sequences.empty());
}

TEST_F(SlotTableTest, SpoiledSlotsNeedAFreshStart) {
  table_.Spoil(batch_);
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {1});
  EXPECT_TRUE(absl::IsFailedPrecondition(Apply(step)));
  step.add_ends(0);
  SlotPlanner again(SmallConfig(), 0, 11);
  step.clear_sequences();
  again.Start(&step);
  again.Add(&step, {1});
  EXPECT_TRUE(Apply(step).ok());
}

// A change to a good step of slot 0, and what the error must say.
struct BadStep {
  const char* text;
  std::function<void(v1::StepPlan*)> change;
};

v1::SequenceShare* First(v1::StepPlan* step) { return step->mutable_sequences(0); }

std::vector<BadStep> BadShares() {
  return {
      {"was started, found slot 2", [](auto* s) { First(s)->set_slot(2); }},
      {"was started, found slot 0", [](auto* s) { s->add_ends(0); }},
      {"first_position: expected 20, found 19", [](auto* s) { First(s)->set_first_position(19); }},
      {"first_position: expected 20, found -2147483648",
       [](auto* s) { First(s)->set_first_position(INT32_MIN); }},
      {"tokens: expected at least one", [](auto* s) { First(s)->clear_tokens(); }},
      {"id in [0, 160), found 160", [](auto* s) { First(s)->set_tokens(0, 160); }},
      {"id in [0, 160), found -2", [](auto* s) { First(s)->set_tokens(0, -2); }},
      {"there is none at this position", [](auto* s) { First(s)->add_tokens(-1); }},
      {"next_token", [](auto* s) { First(s)->set_score(true), First(s)->set_next_token(160); }},
  };
}

std::vector<BadStep> BadBlocks() {
  return {
      {"new_global_blocks: expected blocks in [0, 40), found 40",
       [](auto* s) { First(s)->add_new_global_blocks(40); }},
      {"new_window_blocks: expected blocks in [0, 30), found 30",
       [](auto* s) { First(s)->add_new_window_blocks(30); }},
      {"new_window_blocks: expected blocks in [0, 30), found -1",
       [](auto* s) { First(s)->add_new_window_blocks(-1); }},
      {"expected 2 to 4 blocks in the table, found 5",
       [](auto* s) {
         for (int i = 0; i < 3; ++i) First(s)->add_new_global_blocks(i);
       }},
      {"expected 3 to 4 blocks in the table, found 2",
       [](auto* s) {
         for (int i = 0; i < 20; ++i) First(s)->add_tokens(1);
       }},
      {"window_blocks_left: expected 0 to 0, found 1",
       [](auto* s) { First(s)->set_window_blocks_left(1); }},
      {"window_blocks_left", [](auto* s) { First(s)->set_window_blocks_left(-1); }},
  };
}

std::vector<BadStep> BadSlotsAndSums() {
  return {
      {"nothing", [](auto* s) { s->clear_sequences(); }},
      {"slot in [0, 4), found 4", [](auto* s) { First(s)->set_slot(4); }},
      {"slot in [0, 4), found -1", [](auto* s) { First(s)->set_slot(-1); }},
      {"each slot once", [](auto* s) { *s->add_sequences() = s->sequences(0); }},
      {"ends: expected a slot", [](auto* s) { s->add_ends(9); }},
      {"starts: expected a slot", [](auto* s) { s->add_starts()->set_slot(-1); }},
      {"slot 0 taken", [](auto* s) { s->add_starts()->set_slot(0); }},
      {"at most 64 tokens",
       [](auto* s) {
         SlotPlanner other(SmallConfig(), 1, 0);
         other.Start(s);
         other.Add(s, std::vector<std::int32_t>(64, 1));
       }},
      {"at most 8 rows",
       [](auto* s) {
         SlotPlanner other(SmallConfig(), 1, 0);
         other.Start(s);
         other.Add(s, std::vector<std::int32_t>(10, 1))->set_score(true);
       }},
      {"micro_batch_ends: expected the last to be 1, found 2",
       [](auto* s) { s->add_micro_batch_ends(2); }},
      {"micro_batch_ends: expected more than 0, found 0",
       [](auto* s) { s->add_micro_batch_ends(0), s->add_micro_batch_ends(1); }},
      {"micro_batch_ends: expected more than 1, found 1",
       [](auto* s) { s->add_micro_batch_ends(1), s->add_micro_batch_ends(1); }},
      {"micro_batch_ends: expected at most 3, found 4",
       [](auto* s) {
         for (int i = 1; i <= 4; ++i) s->add_micro_batch_ends(i);
       }},
  };
}

TEST_F(SlotTableTest, AMalformedStepIsRefusedAndNothingChanges) {
  for (const BadStep& bad : BadSlotsAndSums()) {
    v1::StepPlan step = NewStep(2, 1);
    SlotPlanner copy = planner_;
    copy.Add(&step, {-1})->set_sample(true);
    bad.change(&step);
    const absl::Status status = Apply(step);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.text));
  }
  v1::StepPlan good = NewStep(2, 1);
  planner_.Add(&good, {-1});
  ASSERT_TRUE(Apply(good).ok());
  EXPECT_THAT(batch_.tokens, ElementsAre(99));
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(5, 6));
}

// The share that is wrong is left out, and its slot's later ones, until the slot ends; its
// neighbour in the step is computed.
TEST_F(SlotTableTest, ABadShareIsLeftOutAloneUntilItsSlotEnds) {
  for (const std::vector<BadStep>& group : {BadShares(), BadBlocks()}) {
    for (const BadStep& bad : group) {
      SetUp();
      v1::StepPlan step = NewStep(2, 1);
      SlotPlanner copy = planner_;
      copy.Add(&step, {-1})->set_sample(true);
      SlotPlanner neighbour(SmallConfig(), 3, 20);
      neighbour.Start(&step);
      neighbour.Add(&step, {7, 8})->set_sample(true);
      bad.change(&step);
      ASSERT_TRUE(Apply(step).ok()) << bad.text;
      ASSERT_EQ(result_.sequences.size(), 2u) << bad.text;
      EXPECT_EQ(result_.sequences[0].slot, step.sequences(0).slot());
      EXPECT_TRUE(absl::IsInvalidArgument(result_.sequences[0].status)) << bad.text;
      EXPECT_THAT(std::string(result_.sequences[0].status.message()), HasSubstr(bad.text));
      EXPECT_TRUE(result_.sequences[1].status.ok());
      EXPECT_THAT(batch_.tokens, ElementsAre(7, 8));
      ASSERT_EQ(batch_.uses.size(), 1u);
      EXPECT_EQ(batch_.uses[0].answer, 1);
      // A step that was sent before this one's result was known.
      v1::StepPlan later = NewStep(3, 1);
      later.add_sequences()->set_slot(step.sequences(0).slot());
      later.mutable_sequences(0)->set_first_position(21);
      later.mutable_sequences(0)->add_tokens(-1);
      EXPECT_FALSE(ShareStatus(later).ok()) << bad.text;
      EXPECT_TRUE(batch_.tokens.empty());
      v1::StepPlan again = NewStep(4, 1);
      again.add_ends(0), again.add_ends(2), again.add_ends(3);
      SlotPlanner fresh(SmallConfig(), step.sequences(0).slot(), 11);
      fresh.Start(&again);
      fresh.Add(&again, {1})->set_sample(true);
      EXPECT_TRUE(ShareStatus(again).ok()) << bad.text;
      EXPECT_THAT(batch_.tokens, ElementsAre(1));
    }
  }
}

TEST_F(SlotTableTest, BadParametersOfAStartFailItsSlotAlone) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {-1})->set_sample(true);
  SlotPlanner cold(SmallConfig(), 1, 20);
  cold.Start(&step)->mutable_sampling()->set_temperature(-1);
  cold.Add(&step, {1});
  SlotPlanner replayed(SmallConfig(), 2, 22);
  replayed.Start(&step)->add_generated(160);
  replayed.Add(&step, {1});
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_THAT(batch_.tokens, ElementsAre(99));
  ASSERT_EQ(result_.sequences.size(), 3u);
  EXPECT_TRUE(result_.sequences[0].status.ok());
  EXPECT_THAT(std::string(result_.sequences[1].status.message()), HasSubstr("temperature"));
  EXPECT_THAT(std::string(result_.sequences[2].status.message()), HasSubstr("generated"));
}

// Whether a share is left out must not depend on what only the head knows.
TEST_F(SlotTableTest, AWorkerWithoutTheHeadLeavesOutTheSameShares) {
  SlotBounds bounds = Bounds();
  bounds.head = false;
  SlotTable other(bounds);
  StepBatch batch;
  StepResult result;
  v1::StepPlan start = NewStep(1, 1);
  SlotPlanner planner(SmallConfig(), 0, 5);
  planner.Start(&start);
  planner.Add(&start, std::vector<std::int32_t>(20, 3))->set_sample(true);
  ASSERT_TRUE(other.Apply(FromProto(start), &batch, &result).ok());
  EXPECT_TRUE(result.sequences.empty());
  table_.SetHeadFault(0, absl::InternalError("not a number"));

  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {-1})->set_sample(true);
  SlotPlanner bad(SmallConfig(), 1, 20);
  bad.Start(&step);
  bad.Add(&step, {160});
  SlotPlanner good(SmallConfig(), 2, 22);
  good.Start(&step);
  good.Add(&step, {4, 5, 6})->set_sample(true);
  step.add_micro_batch_ends(2);
  step.add_micro_batch_ends(5);
  ASSERT_TRUE(Apply(step).ok());
  ASSERT_TRUE(other.Apply(FromProto(step), &batch, &result).ok());
  ASSERT_EQ(batch.micro_batches.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i)
    EXPECT_EQ(batch.micro_batches[i].num_tokens, batch_.micro_batches[i].num_tokens);
  EXPECT_EQ(batch.micro_batches[0].num_tokens, 1);
  ASSERT_EQ(result.sequences.size(), 1u);
  EXPECT_EQ(result.sequences[0].slot, 1);
  // The head computes the rows of the slot whose logits failed, and answers why; it wants no logits
  // of it.
  ASSERT_EQ(result_.sequences.size(), 3u);
  EXPECT_EQ(result_.sequences[0].status, absl::InternalError("not a number"));
  ASSERT_EQ(batch_.uses.size(), 1u);
  EXPECT_EQ(batch_.uses[0].slot, 2);
}

TEST_F(SlotTableTest, MicroBatchesCutShares) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {-1})->set_sample(true);
  SlotPlanner other(SmallConfig(), 3, 20);
  other.Start(&step);
  v1::SequenceShare* scored = other.Add(&step, {7, 8, 9, 10});
  scored->set_score(true);
  scored->set_sample(true);
  scored->set_pool(true);
  step.add_micro_batch_ends(1);
  step.add_micro_batch_ends(3);
  step.add_micro_batch_ends(5);
  ASSERT_TRUE(Apply(step).ok());
  ASSERT_EQ(batch_.micro_batches.size(), 3u);
  EXPECT_THAT(batch_.step(0).tokens, ElementsAre(99));
  EXPECT_THAT(batch_.step(1).tokens, ElementsAre(7, 8));
  EXPECT_THAT(batch_.step(2).tokens, ElementsAre(9, 10));
  const Step last = batch_.step(2);
  ASSERT_EQ(last.sequences.size(), 1u);
  EXPECT_EQ(last.sequences[0].slot, 3);
  EXPECT_EQ(last.sequences[0].first_token, 0);
  EXPECT_EQ(last.sequences[0].num_tokens, 2);
  EXPECT_EQ(last.sequences[0].first_position, 2);
  EXPECT_THAT(last.sequences[0].global_blocks, ElementsAre(20));
  EXPECT_THAT(last.logit_rows, ElementsAre(0, 1));
  EXPECT_THAT(batch_.step(1).logit_rows, ElementsAre(0, 1));
  // One answer for the share, from both of its micro-batches.
  ASSERT_EQ(batch_.uses.size(), 5u);
  for (std::size_t i = 1; i < 5; ++i) EXPECT_EQ(batch_.uses[i].answer, 1);
  EXPECT_EQ(batch_.uses[3].score, 10);
  EXPECT_TRUE(batch_.uses[4].sample);
  EXPECT_EQ(batch_.uses[4].position, 4);
  EXPECT_FALSE(batch_.step(0).hidden_states);
  EXPECT_TRUE(batch_.step(1).hidden_states && last.hidden_states);
  ASSERT_EQ(batch_.pools.size(), 2u);
  for (const PoolUse& pool : batch_.pools) {
    EXPECT_EQ(pool.answer, 1);
    EXPECT_EQ(pool.first_row, 0);
    EXPECT_EQ(pool.rows, 2);
  }
}

TEST_F(SlotTableTest, AShareThatPoolsAloneGetsAnAnswerAndTakesNoLogits) {
  v1::StepPlan step = NewStep(2, 1);
  SlotPlanner other(SmallConfig(), 3, 20);
  other.Start(&step);
  other.Add(&step, {7, 8, 9})->set_pool(true);
  ASSERT_TRUE(Apply(step).ok());
  ASSERT_EQ(result_.sequences.size(), 1u);
  EXPECT_EQ(result_.sequences[0].slot, 3);
  EXPECT_TRUE(batch_.step(0).logit_rows.empty());
  EXPECT_TRUE(batch_.step(0).hidden_states);
  // Nothing is wanted of a slot whose results the head could not use.
  table_.SetHeadFault(3, absl::InternalError("not a number"));
  step = NewStep(3, 1);
  other.Add(&step, {10})->set_pool(true);
  EXPECT_EQ(ShareStatus(step), absl::InternalError("not a number"));
  EXPECT_FALSE(batch_.step(0).hidden_states);
}

TEST_F(SlotTableTest, AnEncodersTextHasOneShare) {
  SlotBounds bounds = Bounds();
  bounds.config.bidirectional = true;
  table_ = SlotTable(bounds);
  SlotPlanner planner(SmallConfig(), 2, 20);
  v1::StepPlan step = NewStep(1, 1);
  planner.Start(&step);
  planner.Add(&step, {3, 4})->set_pool(true);
  EXPECT_TRUE(ShareStatus(step).ok());
  step = NewStep(2, 1);
  planner.Add(&step, {5})->set_pool(true);
  const absl::Status second = ShareStatus(step);
  EXPECT_EQ(second.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(second.message()), HasSubstr("one share for a whole text"));
}

TEST_F(SlotTableTest, AMicroBatchWhoseSharesAreAllLeftOutIsEmpty) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {1, 160, 3})->set_sample(true);
  SlotPlanner other(SmallConfig(), 3, 20);
  other.Start(&step);
  other.Add(&step, {7, 8});
  step.add_micro_batch_ends(2);
  step.add_micro_batch_ends(4);
  step.add_micro_batch_ends(5);
  ASSERT_TRUE(Apply(step).ok());
  EXPECT_TRUE(batch_.step(0).tokens.empty());
  EXPECT_THAT(batch_.step(1).tokens, ElementsAre(7));
  EXPECT_THAT(batch_.step(2).tokens, ElementsAre(8));
}

TEST_F(SlotTableTest, TheSampledTokenStandsOnlyAtItsPosition) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {1});
  ASSERT_TRUE(Apply(step).ok());  // no sample asked for
  step = NewStep(3, 1);
  planner_.Add(&step, {-1});
  EXPECT_TRUE(absl::IsInvalidArgument(ShareStatus(step)));
}
}  // namespace
}  // namespace tandem
