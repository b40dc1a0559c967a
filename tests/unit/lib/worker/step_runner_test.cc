// The interpreter of the lists and its loop, without a network: programs of the test over real
// edges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/wire/step_wire.h"
#include "lib/worker/step_loop.h"
#include "tests/unit/lib/worker/step_runner_fixture.h"
#include "tests/unit/lib/worker/test_hooks.h"

namespace tandem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Steps of different cuts, refused ones and ones that are empty on their way: both ends go on
// counting alike.
TEST_F(StepRunnerTest, BothEndsStayInStepWhateverBecomesOfAStep) {
  Make("split", 3, 4);
  SlotPlanner first(SmallConfig(), 0, 0);
  SlotPlanner second(SmallConfig(), 1, 100);
  std::vector<StepPlan> plans;
  std::vector<absl::StatusCode> expected;
  std::uint64_t id = 1;
  const auto add = [&](absl::StatusCode code, const std::function<void(v1::StepPlan*)>& fill) {
    plans.push_back(Plan(id++, fill));
    expected.push_back(code);
  };
  add(absl::StatusCode::kOk, [&](v1::StepPlan* step) {
    first.Start(step), second.Start(step);
    first.Add(step, {1, 2, 3, 4})->set_sample(true);
    second.Add(step, {5, 6})->set_sample(true);
    for (const int end : {1, 5, 6}) step->add_micro_batch_ends(end);
  });
  for (int round = 0; round < 20; ++round) {
    add(absl::StatusCode::kOk, [&](v1::StepPlan* step) {
      first.Add(step, {kSampledToken})->set_sample(true);
      second.Add(step, {kSampledToken})->set_sample(true);
      if (round % 2 == 0) step->add_micro_batch_ends(1), step->add_micro_batch_ends(2);
    });
    add(absl::StatusCode::kInvalidArgument, [&](v1::StepPlan* step) {
      SlotPlanner copy = first;
      copy.Add(step, {1, 2});
      for (const int end : {1, 9}) step->add_micro_batch_ends(end);
    });
    // A third slot whose only share is wrong: an empty micro-batch, at the front or at the back.
    add(absl::StatusCode::kOk, [&](v1::StepPlan* step) {
      SlotPlanner bad(SmallConfig(), 2, 190);
      bad.Start(step);
      if (round % 2 == 0) bad.Add(step, {160, 1});
      first.Add(step, {kSampledToken})->set_sample(true);
      if (round % 2 == 1) bad.Add(step, {160, 1});
      step->add_micro_batch_ends(round % 2 == 0 ? 2 : 1);
      step->add_micro_batch_ends(3);
    });
    add(absl::StatusCode::kOk, [&](v1::StepPlan* step) { step->add_ends(2); });
  }
  const auto results = RunAll(plans);
  for (const auto& [name, found] : results) {
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(found[i].status.code(), expected[i])
          << name << ", step " << i + 1 << ": " << found[i].status;
  }
  // 3 layers: the first step three micro-batches, then in each round two or one, and one.
  const std::uint64_t hand_overs = 3 * (3 + 10 * (2 + 1) + 20);
  for (const auto& [name, worker] : workers_) {
    for (const auto& edge : worker.edges) EXPECT_EQ(edge->control->handovers(), hand_overs);
  }
}

// A step that fails on one worker ends at once on the other, and does not leave the edges askew.
TEST_F(StepRunnerTest, AStepThatFailsOnOneWorkerEndsOnTheOther) {
  Make("split", 2, 3);
  workers_["npu0"].program->on_wait = [n = 0](std::int32_t, std::int32_t) mutable {
    return ++n == 3 ? absl::InternalError("the device stumbled") : absl::OkStatus();
  };
  SlotPlanner slot(SmallConfig(), 0, 0);
  std::vector<StepPlan> plans;
  plans.push_back(Plan(1, [&](v1::StepPlan* step) {
    slot.Start(step);
    slot.Add(step, {1, 2, 3, 4})->set_sample(true);
    for (const int end : {2, 4}) step->add_micro_batch_ends(end);
    step->set_timeout_seconds(3000);
  }));
  // Sent ahead: the slot is of no use now.
  plans.push_back(Plan(2, [&](v1::StepPlan* step) { slot.Add(step, {kSampledToken}); }));
  plans.push_back(Plan(3, [&](v1::StepPlan* step) {
    step->add_ends(0);
    slot.Start(step);
    slot.Add(step, {1, 2, 3, 4})->set_sample(true);
  }));
  const auto results = RunAll(plans);
  EXPECT_THAT(std::string(results.at("npu0")[0].status.message()), HasSubstr("stumbled"));
  EXPECT_TRUE(absl::IsAborted(results.at("gpu0")[0].status)) << results.at("gpu0")[0].status;
  for (const auto& [name, found] : results) {
    EXPECT_TRUE(absl::IsFailedPrecondition(found[1].status)) << name << found[1].status;
    EXPECT_TRUE(found[2].status.ok()) << name << found[2].status;
  }
}

// A machine that sleeps for two hours, or whose clock is set, in the middle of a step.
TEST_F(StepRunnerTest, TheWallClockIsNoDeadline) {
  Make("split", 1, 2);
  for (auto& [name, worker] : workers_) {
    worker.program->on_wait = [](std::int32_t stage, std::int32_t) {
      if (stage == 1) SetWallClockJump(7200);
      return absl::OkStatus();
    };
  }
  SlotPlanner slot(SmallConfig(), 0, 0);
  std::vector<StepPlan> plans;
  plans.push_back(Plan(1, [&](v1::StepPlan* step) {
    slot.Start(step);
    slot.Add(step, {1, 2, 3, 4})->set_sample(true);
    step->set_timeout_seconds(60);
  }));
  const absl::Time before = absl::Now();
  const auto results = RunAll(plans);
  EXPECT_GE(absl::Now() - before, absl::Hours(2));
  SetWallClockJump(0);
  for (const auto& [name, found] : results) EXPECT_TRUE(found[0].status.ok()) << found[0].status;
}

// Where two threads wait for each other; false when one never comes.
class Meeting {
 public:
  bool Meet() {
    std::unique_lock lock(mutex_);
    const int round = arrived_++ / 2;
    changed_.notify_all();
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return arrived_ >= 2 * (round + 1); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
};

// In every layer the feed-forward half of micro-batch 0 and the attention of micro-batch 1 are
// under way at the same moment: neither ends before the other has begun.
TEST_F(StepRunnerTest, TwoMicroBatchesComputeAtOnce) {
  Make("split", 2, 3);
  std::vector<Meeting> layers(3);
  const auto meet = [&](std::int32_t layer) {
    return layers[static_cast<std::size_t>(layer)].Meet()
               ? absl::OkStatus()
               : absl::InternalError("the other worker computed nothing meanwhile");
  };
  workers_["npu0"].program->on_wait = [&](std::int32_t stage, std::int32_t context) {
    return context == 1 ? meet(stage) : absl::OkStatus();
  };
  // Its stage 0 embeds.
  workers_["gpu0"].program->on_wait = [&](std::int32_t stage, std::int32_t context) {
    return context == 0 && stage > 0 ? meet(stage - 1) : absl::OkStatus();
  };
  SlotPlanner slot(SmallConfig(), 0, 0);
  std::vector<StepPlan> plans;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    plans.push_back(Plan(id, [&](v1::StepPlan* step) {
      if (id == 1) slot.Start(step);
      slot.Add(step, {1, 2, 3, 4})->set_sample(true);
      for (const int end : {2, 4}) step->add_micro_batch_ends(end);
      step->set_timeout_seconds(200);
    }));
  }
  const auto results = RunAll(plans);
  for (const auto& [name, found] : results) {
    for (const StepResult& result : found) EXPECT_TRUE(result.status.ok()) << result.status;
  }
}

TEST_F(StepRunnerTest, SumsOfHiddenStatesAreOfTheShareAlone) {
  Make("gpu", 2, 3);
  QuietProgram& program = *workers_["gpu0"].program;
  constexpr std::size_t kHidden = QuietProgram::kHidden;
  for (std::size_t i = 0; i < program.states.size(); ++i)
    program.states[i] = static_cast<float>(i / kHidden + 1);
  SlotPlanner first(SmallConfig(), 0, 0);
  SlotPlanner second(SmallConfig(), 1, 100);
  // Rows 0, 1 and 2 are the first one's, row 3 and (in the next micro-batch) row 0 the second's.
  const auto results = RunAll({Plan(1, [&](v1::StepPlan* step) {
    first.Start(step), second.Start(step);
    first.Add(step, {1, 2, 3})->set_pool(true);
    second.Add(step, {4, 5})->set_pool(true);
    for (const int end : {4, 5}) step->add_micro_batch_ends(end);
  })});
  const StepResult& result = results.at("gpu0")[0];
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.sequences.size(), 2u);
  EXPECT_EQ(result.sequences[0].pooled, std::vector<double>(kHidden, 1 + 2 + 3));
  EXPECT_EQ(result.sequences[1].pooled, std::vector<double>(kHidden, 4 + 1));
}

TEST_F(StepRunnerTest, AHiddenStateThatIsNoNumberFailsItsShareAlone) {
  Make("gpu", 1, 3);
  workers_["gpu0"].program->states[QuietProgram::kHidden + 5] = NAN;
  SlotPlanner first(SmallConfig(), 0, 0);
  SlotPlanner second(SmallConfig(), 1, 100);
  const auto fill = [&](v1::StepPlan* step) {
    first.Add(step, {1, 2})->set_pool(true);
    second.Add(step, {4, 5})->set_pool(true);
  };
  const auto results = RunAll({Plan(1,
                                    [&](v1::StepPlan* step) {
                                      first.Start(step), second.Start(step);
                                      fill(step);
                                    }),
                               Plan(2, fill)});
  for (const StepResult& result : results.at("gpu0")) {
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.sequences.size(), 2u);
    EXPECT_THAT(std::string(result.sequences[0].status.message()), HasSubstr("not finite"));
    EXPECT_TRUE(result.sequences[0].pooled.empty());
    EXPECT_TRUE(result.sequences[1].status.ok());
    EXPECT_EQ(result.sequences[1].pooled.size(), QuietProgram::kHidden);
  }
}

TEST_F(StepRunnerTest, EveryEntryIsTraced) {
  Make("gpu", 2, 2);
  const std::uint64_t next = trace_.Read(0, 1).next;
  SlotPlanner slot(SmallConfig(), 0, 0);
  StepResult result;
  const StepPlan plan = Plan(1, [&](v1::StepPlan* step) {
    slot.Start(step);
    slot.Add(step, {1, 2, 3})->set_sample(true);
    for (const int end : {2, 3}) step->add_micro_batch_ends(end);
  });
  ASSERT_TRUE(workers_["gpu0"].runner->Run(plan, &result).ok());
  const TraceRecorder::Batch batch = trace_.Read(next, 100);
  std::vector<std::pair<TraceOp, int>> found;
  std::int64_t before = 0;
  for (const TraceEvent& event : batch.events) {
    found.emplace_back(event.op, event.micro_batch);
    EXPECT_EQ(event.step_id, 1u);
    EXPECT_GE(event.begin_ns, before);
    EXPECT_GE(event.end_ns, event.begin_ns);
    before = event.end_ns;
  }
  EXPECT_THAT(found, ElementsAre(std::pair(TraceOp::kBegin, 0), std::pair(TraceOp::kRun, 0),
                                 std::pair(TraceOp::kBegin, 1), std::pair(TraceOp::kRun, 1),
                                 std::pair(TraceOp::kSample, 0), std::pair(TraceOp::kSample, 1)));
}

class CountingSink final : public StepSink {
 public:
  void OnResult(const StepResult& result) override {
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(result.status.ok()) << result.status;
    ++results_;
    changed_.notify_all();
  }
  void WaitFor(int results) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_ >= results; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int results_ = 0;
};

// From one Begin to the next on the loop's thread: queue, slot table, list, edges, sampling,
// result, trace.
TEST_F(StepRunnerTest, SteadyStepsAllocateNothingOnTheirThread) {
  constexpr int kSteps = 200;
  constexpr int kWarm = 20;
  Make("split", 2, 3);
  trace_.Read(0, 1);
  std::map<std::string, std::vector<std::uint64_t>> counts;
  std::map<std::string, std::unique_ptr<StepLoop>> loops;
  std::map<std::string, std::shared_ptr<CountingSink>> sinks;
  for (auto& [name, worker] : workers_) {
    counts[name].reserve(kSteps);
    worker.program->on_begin = [seen = &counts[name]](std::int32_t context, const Step&) {
      if (context == 0) seen->push_back(ThreadAllocations());
    };
    loops[name] = std::make_unique<StepLoop>(
        StepLoop::Hooks{.on_device_lost = [](const absl::Status&) {}, .on_idle = [] {}});
    loops[name]->Install(std::move(worker.runner));
    sinks[name] = std::make_shared<CountingSink>();
  }
  SlotPlanner first(SmallConfig(), 0, 0);
  SlotPlanner second(SmallConfig(), 1, 100);
  v1::StepPlan message;
  for (int i = 1; i <= kSteps; ++i) {
    message = NewStep(static_cast<std::uint64_t>(i), 1);
    for (SlotPlanner* slot : {&first, &second}) {
      // Log-probabilities are answered in vectors of their own.
      if (i == 1) slot->Start(&message)->mutable_sampling()->set_num_logprobs(-1);
    }
    first.Add(&message, {i == 1 ? 3 : kSampledToken})->set_sample(true);
    second.Add(&message, {i == 1 ? 4 : kSampledToken})->set_sample(true);
    message.add_micro_batch_ends(1);
    message.add_micro_batch_ends(2);
    for (auto& [name, loop] : loops) {
      // No more than a few steps ahead, as a gateway's window is.
      sinks[name]->WaitFor(i - 3);
      std::unique_ptr<StepJob> job = loop->NewJob();
      FromProto(message, &job->plan);
      job->sink = sinks[name];
      loop->Enqueue(std::move(job));
    }
  }
  for (auto& [name, sink] : sinks) sink->WaitFor(kSteps);
  loops.clear();
  for (const auto& [name, seen] : counts) {
    ASSERT_EQ(seen.size(), static_cast<std::size_t>(kSteps)) << name;
    EXPECT_GT(seen[0], 0u);
    EXPECT_EQ(seen[kSteps - 1] - seen[kWarm], 0u) << name;
  }
}

}  // namespace
}  // namespace tandem
