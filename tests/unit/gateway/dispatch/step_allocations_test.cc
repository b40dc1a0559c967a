// The step path of the gateway's engine thread allocates nothing in steady state: counted here by
// the global operator new.
#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "gateway/dispatch/cluster_metrics.h"
#include "gateway/dispatch/coordinator.h"

namespace {
std::int64_t allocations = 0;
}

void* operator new(std::size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tandem {
namespace {

constexpr std::int32_t kSequences = 8;
constexpr absl::Duration kNow = absl::Seconds(1);

class StepAllocations : public ::testing::Test {
 protected:
  static Coordinator Make(std::int32_t depth) {
    RecoveryOptions recovery;
    recovery.workers = {"npu0", "gpu0"};
    SchedulerOptions scheduler;
    scheduler.limits = {.max_tokens = 64,
                        .max_sequences = kSequences,
                        .max_logit_rows = kSequences,
                        .max_blocks_per_sequence = 128};
    scheduler.context_tokens = 2048;
    scheduler.vocab_size = 1000;
    scheduler.hidden_size = 16;
    scheduler.sliding_window = 64;
    scheduler.global_blocks = kSequences * 128;
    scheduler.window_blocks = kSequences * 16;
    scheduler.steps_in_flight = depth;
    scheduler.micro_batches = 2;
    scheduler.min_micro_batch_tokens = 4;
    scheduler.eos_ids = {1};
    auto plan = std::make_shared<ClusterPlan>();
    plan->members = {1, 1};
    plan->head = 1;
    Coordinator coordinator(recovery, scheduler, std::move(plan));
    coordinator.Start(kNow);
    coordinator.OnLoaded(1, absl::OkStatus(), kNow);
    for (const ClusterPhase phase :
         {ClusterPhase::kDescribing, ClusterPhase::kPreparing, ClusterPhase::kConnecting}) {
      for (std::size_t worker = 0; worker < 2; ++worker)
        coordinator.OnReply(1, phase, worker, absl::OkStatus(), kNow);
    }
    return coordinator;
  }

  // Both workers answer the oldest step; the memory of their answers is used again, as the engine
  // thread does it.
  void AnswerOne(Coordinator& coordinator) {
    const StepPlan& plan = plans_[answered_ % plans_.size()];
    ++answered_;
    for (std::size_t worker = 0; worker < 2; ++worker) {
      StepReply& reply = replies_[worker];
      reply.round = 1;
      reply.worker = worker;
      reply.result.step_id = plan.step_id;
      reply.result.sequences.resize(worker == 1 ? plan.sequences.size() : 0);
      for (std::size_t i = 0; i < reply.result.sequences.size(); ++i) {
        reply.result.sequences[i].slot = plan.sequences[i].slot;
        reply.result.sequences[i].sampled.reset();
        if (plan.sequences[i].sample) reply.result.sequences[i].sampled.emplace().token = 7;
      }
      coordinator.OnStepReply(&reply, kNow);
    }
  }

  void Take(Coordinator& coordinator) {
    coordinator.Take(kNow, &effects_);
    for (const StepPlan& plan : effects_.steps()) plans_[sent_++ % plans_.size()] = plan;
    tokens_ += effects_.events.size();
  }

  Coordinator::Effects effects_;
  std::array<StepPlan, kMostStepsInFlight> plans_;
  std::array<StepReply, 2> replies_;
  std::size_t sent_ = 0;
  std::size_t answered_ = 0;
  std::size_t tokens_ = 0;
};

TEST_F(StepAllocations, SteadyDecodeStepsAllocateNothing) {
  for (std::int32_t depth = 1; depth <= kMostStepsInFlight; ++depth) {
    SCOPED_TRACE(depth);
    Coordinator coordinator = Make(depth);
    sent_ = answered_ = 0;
    for (std::uint64_t id = 0; id < kSequences; ++id) {
      GenerationRequest request;
      // Blocks are full, and leave the window, at different steps.
      request.prompt.assign(5 + 3 * id, 2);
      request.max_tokens = 1500;
      ASSERT_TRUE(coordinator.Submit(id, request).ok());
    }
    Take(coordinator);
    for (int i = 0; i < 200; ++i) {
      AnswerOne(coordinator);
      Take(coordinator);
    }
    tokens_ = 0;
    ASSERT_GT(allocations, 0) << "operator new is counted";
    const std::int64_t before = allocations;
    for (int i = 0; i < 1000; ++i) {
      AnswerOne(coordinator);
      Take(coordinator);
    }
    const std::int64_t counted = allocations - before;
    EXPECT_EQ(counted, 0) << "in 1000 steps of " << kSequences << " tokens";
    EXPECT_EQ(tokens_, std::size_t{1000} * kSequences);
  }
}

// Labels are looked up when a worker is connected, not with every answer.
TEST(StepMetrics, CountingAStepAllocatesNothing) {
  const auto registry = std::make_shared<prometheus::Registry>();
  ClusterMetrics metrics(registry);
  const ClusterMetrics::WorkerTimes times = metrics.Worker("npu0", "a device");
  const std::int64_t before = allocations;
  for (int i = 0; i < 100; ++i) {
    times.Add(absl::Milliseconds(10), absl::Milliseconds(1));
    metrics.Step(absl::Milliseconds(12), 8, 0, 8);
    metrics.Kv(ClusterMetrics::KvGroup::kWindow, 100, 8, 4);
    metrics.Requests(8, 0);
  }
  const std::int64_t counted = allocations - before;
  EXPECT_EQ(counted, 0);
  const std::string text = prometheus::TextSerializer().Serialize(registry->Collect());
  EXPECT_NE(text.find("tandem_worker_run_seconds_total{device=\"a device\",worker=\"npu0\"} 1"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace tandem
