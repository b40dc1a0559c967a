#include "lib/worker/slot_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SlotBounds Bounds() {
  return {SmallConfig(),
          {.max_tokens = 64, .max_sequences = 4, .max_logit_rows = 8, .max_blocks_per_sequence = 4},
          40,
          30};
}

class SlotTableTest : public testing::Test {
 protected:
  // Slot 0 stands at position 20 with two blocks, its last token sampled.
  void SetUp() override {
    v1::StepPlan step = NewStep(1, 1);
    planner_.Start(&step);
    planner_.Add(&step, std::vector<std::int32_t>(20, 3))->set_sample(true);
    ASSERT_TRUE(table_.Apply(step, &batch_).ok());
    table_.SetSampled(0, 99);
  }
  SlotTable table_{Bounds()};
  SlotPlanner planner_{SmallConfig(), 0, 5};
  StepBatch batch_;
};

TEST_F(SlotTableTest, FillsTheBatch) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {-1})->set_sample(true);
  SlotPlanner other(SmallConfig(), 3, 20);
  other.Start(&step);
  v1::SequenceShare* scored = other.Add(&step, {7, 8, 9});
  scored->set_score(true);
  scored->set_next_token(10);
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
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

TEST_F(SlotTableTest, TheLastRowIsNotScoredWithoutANextToken) {
  v1::StepPlan step = NewStep(2, 1);
  v1::SequenceShare* share = planner_.Add(&step, {1, 2});
  share->set_score(true);
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
  EXPECT_THAT(batch_.logit_rows, ElementsAre(0));
  EXPECT_EQ(batch_.uses[0].score, 2);
}

TEST_F(SlotTableTest, WindowBlocksThatLeftAreGone) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step,
               std::vector<std::int32_t>(20, 1));  // 20 to 39; the query at 20 sees 3 and later
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
  EXPECT_THAT(batch_.sequences[0].window_blocks, ElementsAre(5, 6, 7));
  step = NewStep(3, 1);
  planner_.Add(&step, {1});  // 40 sees 23 and later
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
  EXPECT_THAT(batch_.sequences[0].window_blocks, ElementsAre(kNoBlock, 6, 7));
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(5, 6, 7));
}

TEST_F(SlotTableTest, CountsReplayedAndSampledTokens) {
  v1::StepPlan step = NewStep(2, 1);
  SlotPlanner other(SmallConfig(), 1, 20);
  v1::SequenceStart* start = other.Start(&step);
  for (const std::int32_t token : {4, 4, 2}) start->add_generated(token);
  other.Add(&step, {1})->set_sample(true);
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
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
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
  EXPECT_EQ(batch_.sequences[0].first_position, 0);
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(11));
  EXPECT_TRUE(table_.counts(0).counts().empty());
}

TEST_F(SlotTableTest, AStepMayOnlyEndSlots) {
  v1::StepPlan step = NewStep(2, 1);
  step.add_ends(0);
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());
  EXPECT_TRUE(batch_.sequences.empty());
}

TEST_F(SlotTableTest, SpoiledSlotsNeedAFreshStart) {
  table_.Spoil(batch_);
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {1});
  EXPECT_TRUE(absl::IsFailedPrecondition(table_.Apply(step, &batch_)));
  step.add_ends(0);
  SlotPlanner again(SmallConfig(), 0, 11);
  step.clear_sequences();
  again.Start(&step);
  again.Add(&step, {1});
  EXPECT_TRUE(table_.Apply(step, &batch_).ok());
}

// A change to a good step of slot 0, and what the error must say.
struct BadStep {
  const char* text;
  std::function<void(v1::StepPlan*)> change;
};

v1::SequenceShare* First(v1::StepPlan* step) { return step->mutable_sequences(0); }

v1::SequenceStart* StartSlot1(v1::StepPlan* step) {
  v1::SequenceStart* start = step->add_starts();
  start->set_slot(1);
  start->mutable_sampling()->set_top_p(1);
  return start;
}

std::vector<BadStep> BadShares() {
  return {
      {"slot in [0, 4), found 4", [](auto* s) { First(s)->set_slot(4); }},
      {"slot in [0, 4), found -1", [](auto* s) { First(s)->set_slot(-1); }},
      {"was started, found slot 2", [](auto* s) { First(s)->set_slot(2); }},
      {"each slot once", [](auto* s) { *s->add_sequences() = s->sequences(0); }},
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
      {"ends: expected a slot", [](auto* s) { s->add_ends(9); }},
      {"was started, found slot 0", [](auto* s) { s->add_ends(0); }},
      {"starts: expected a slot", [](auto* s) { s->add_starts()->set_slot(-1); }},
      {"slot 0 taken", [](auto* s) { s->add_starts()->set_slot(0); }},
      {"generated", [](auto* s) { StartSlot1(s)->add_generated(160); }},
      {"temperature", [](auto* s) { StartSlot1(s)->mutable_sampling()->set_temperature(-1); }},
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
  };
}

TEST_F(SlotTableTest, EveryBadFieldIsRefusedAndNothingChanges) {
  for (const std::vector<BadStep>& group : {BadShares(), BadBlocks(), BadSlotsAndSums()}) {
    for (const BadStep& bad : group) {
      v1::StepPlan step = NewStep(2, 1);
      SlotPlanner copy = planner_;
      copy.Add(&step, {-1})->set_sample(true);
      bad.change(&step);
      const absl::Status status = table_.Apply(step, &batch_);
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.text;
      EXPECT_THAT(std::string(status.message()), HasSubstr(bad.text));
    }
  }
  v1::StepPlan good = NewStep(2, 1);
  planner_.Add(&good, {-1});
  ASSERT_TRUE(table_.Apply(good, &batch_).ok());
  EXPECT_THAT(batch_.tokens, ElementsAre(99));
  EXPECT_THAT(batch_.sequences[0].global_blocks, ElementsAre(5, 6));
}

TEST_F(SlotTableTest, TheSampledTokenStandsOnlyAtItsPosition) {
  v1::StepPlan step = NewStep(2, 1);
  planner_.Add(&step, {1});
  ASSERT_TRUE(table_.Apply(step, &batch_).ok());  // no sample asked for
  step = NewStep(3, 1);
  planner_.Add(&step, {-1});
  EXPECT_TRUE(absl::IsInvalidArgument(table_.Apply(step, &batch_)));
}

}  // namespace
}  // namespace tandem
