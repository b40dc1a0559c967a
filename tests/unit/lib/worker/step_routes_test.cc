// Steps of plans with two routes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/lib/worker/step_runner_fixture.h"

namespace tandem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Steps of both routes, and of none: the number of hand-overs is that of each step's route, at both
// ends, whatever becomes of it.
TEST_F(StepRunnerTest, BothEndsCountTheHandOversOfEachStepsRoute) {
  Make("hybrid", 2, 3);
  std::map<std::string, std::vector<std::int32_t>> stages;
  for (auto& [name, worker] : workers_) {
    worker.program->on_wait = [ran = &stages[name]](std::int32_t stage, std::int32_t) {
      ran->push_back(stage);
      return absl::OkStatus();
    };
  }
  SlotPlanner slot(SmallConfig(), 0, 0);
  std::vector<StepPlan> plans;
  std::uint64_t id = 1;
  const auto add = [&](std::int32_t route, const std::function<void(v1::StepPlan*)>& fill) {
    plans.push_back(Plan(id++, fill));
    plans.back().route = route;
  };
  const auto decode = [&](v1::StepPlan* step) {
    slot.Add(step, {kSampledToken})->set_sample(true);
  };
  add(kPrefillRoute, [&](v1::StepPlan* step) {
    slot.Start(step);
    slot.Add(step, {1, 2, 3, 4})->set_sample(true);
    for (const int end : {2, 4}) step->add_micro_batch_ends(end);
  });
  add(kDecodeRoute, decode);
  add(kDecodeRoute, decode);
  // Refused on both.
  for (const std::int32_t route : {-1, 2, 1 << 30}) {
    add(route, [&](v1::StepPlan* step) { SlotPlanner(slot).Add(step, {5}); });
  }
  // Refused after its route was read.
  add(kPrefillRoute, [&](v1::StepPlan* step) {
    SlotPlanner(slot).Add(step, {5, 6});
    step->add_micro_batch_ends(9);
  });
  add(kPrefillRoute, [&](v1::StepPlan* step) { slot.Add(step, {5, 6})->set_sample(true); });
  add(kDecodeRoute, decode);
  const auto results = RunAll(plans);
  for (const auto& [name, found] : results) {
    for (std::size_t i = 0; i < found.size(); ++i) {
      const bool refused = i >= 3 && i <= 6;
      EXPECT_EQ(absl::IsInvalidArgument(found[i].status), refused) << name << found[i].status;
      EXPECT_EQ(found[i].status.ok(), !refused) << name << found[i].status;
    }
    EXPECT_THAT(std::string(found[3].status.message()), HasSubstr("route: expected 0 to 1"));
  }
  // Stage 0 is all of decode; each prefill runs 1 to 5 once for a micro-batch.
  EXPECT_THAT(stages["gpu0"], ElementsAre(1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 0, 1, 2, 3, 4, 5, 0));
  EXPECT_THAT(stages["npu0"], ElementsAre(0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3));
  for (const auto& [name, worker] : workers_)
    for (const auto& edge : worker.edges) EXPECT_EQ(edge->control->handovers(), 4u * (2 + 1));
}

}  // namespace
}  // namespace tandem
