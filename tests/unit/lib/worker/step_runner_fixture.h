#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/wire/step_wire.h"
#include "lib/worker/step_runner.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {

// Computes nothing; logits favour token 7 in every row.
class QuietProgram final : public Program {
 public:
  QuietProgram(std::int32_t contexts, std::int32_t vocab, std::int32_t max_rows)
      : logits_(static_cast<std::size_t>(vocab) * static_cast<std::size_t>(max_rows)),
        rows_(static_cast<std::size_t>(contexts)),
        tokens_(static_cast<std::size_t>(contexts)),
        vocab_(static_cast<std::size_t>(vocab)) {
    for (std::size_t i = 7; i < logits_.size(); i += vocab_) logits_[i] = 1;
  }

  std::int32_t contexts() const override { return static_cast<std::int32_t>(rows_.size()); }
  absl::Status Begin(std::int32_t context, const Step& step) override {
    if (on_begin) on_begin(context, step);
    rows_[static_cast<std::size_t>(context)] = step.logit_rows.size();
    tokens_[static_cast<std::size_t>(context)] = step.hidden_states ? step.tokens.size() : 0;
    return absl::OkStatus();
  }
  absl::StatusOr<Ticket> Submit(std::int32_t stage, std::int32_t context, std::int32_t,
                                std::int32_t) override {
    stage_ = stage;
    context_ = context;
    return Ticket{++ticket_};
  }
  absl::Status Wait(Ticket, Deadline deadline) override {
    if (deadline.passed()) return absl::DeadlineExceededError("too late");
    return on_wait ? on_wait(stage_, context_) : absl::OkStatus();
  }
  void Cancel() override {}
  std::span<const float> logits(std::int32_t context) const override {
    return std::span(logits_).first(rows_[static_cast<std::size_t>(context)] * vocab_);
  }
  std::span<const float> hidden_states(std::int32_t context) const override {
    return std::span(states).first(tokens_[static_cast<std::size_t>(context)] * kHidden);
  }
  std::uint64_t scratch_bytes() const override { return 0; }

  static constexpr std::size_t kHidden = 96;
  // Of every context's tokens, (tokens, kHidden).
  std::vector<float> states = std::vector<float>(64 * kHidden);
  std::function<void(std::int32_t context, const Step& step)> on_begin;
  std::function<absl::Status(std::int32_t stage, std::int32_t context)> on_wait;

 private:
  std::vector<float> logits_;
  std::vector<std::size_t> rows_;
  // Of which hidden states are asked for.
  std::vector<std::size_t> tokens_;
  std::size_t vocab_;
  std::uint64_t ticket_ = 0;
  std::int32_t stage_ = 0;
  std::int32_t context_ = 0;
};

// One worker's runner with its end of the edges.
struct Worker {
  std::vector<std::unique_ptr<Edge>> edges;
  QuietProgram* program = nullptr;
  std::unique_ptr<StepRunner> runner;
};

// Both workers of a plan, joined by real control pages.
class StepRunnerTest : public testing::Test {
 protected:
  void Make(const std::string& plan, std::int32_t micro_batches, std::int32_t slots) {
    for (const char* name : {"gpu0", "npu0"}) {
      if (plan == "gpu" && name == std::string("npu0")) continue;
      StepRunner::Parts parts;
      const ModelConfig config = SmallConfig();
      parts.generation = 1;
      parts.layout = *LayOutStages(
          *MakePlan(plan, config, {{"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}}), config,
          name);
      parts.bounds = {config,
                      {.max_tokens = 64,
                       .max_sequences = 4,
                       .max_logit_rows = 8,
                       .max_blocks_per_sequence = 64},
                      200,
                      200,
                      micro_batches,
                      parts.layout.has_head};
      auto program =
          std::make_unique<QuietProgram>(std::max(2, micro_batches), config.vocab_size, 8);
      Worker& worker = workers_[name];
      worker.program = program.get();
      parts.program = std::move(program);
      for (const PlanEdge& edge : parts.layout.edges) {
        worker.edges.push_back(MakeEnd(edge, name, slots));
        parts.edges.push_back(worker.edges.back().get());
      }
      parts.trace = &trace_;
      worker.runner = std::make_unique<StepRunner>(std::move(parts));
    }
  }

  std::unique_ptr<Edge> MakeEnd(const PlanEdge& ends, const std::string& name, std::int32_t slots) {
    auto edge = std::make_unique<Edge>();
    edge->spec.id = absl::StrCat(ends.from, ">", ends.to);
    edge->spec.layout = MakeResidualLayout(slots, 64, 96);
    const EdgeEnd end = ends.from == name ? EdgeEnd::kProducer : EdgeEnd::kConsumer;
    int& page = pages_[edge->spec.id];
    edge->control =
        page == 0 ? *EdgeControl::Create(edge->spec.id, end, edge->spec.layout, 1)
                  : *EdgeControl::Open(edge->spec.id, end, *Duplicate(page), edge->spec.layout, 1);
    if (page == 0) page = edge->control->fd();
    return edge;
  }

  // Runs the steps on both workers at the same time; results by worker, in order.
  std::map<std::string, std::vector<StepResult>> RunAll(const std::vector<StepPlan>& plans) {
    std::map<std::string, std::vector<StepResult>> results;
    std::vector<std::thread> threads;
    for (auto& [name, worker] : workers_) {
      results[name].resize(plans.size());
      threads.emplace_back([&plans, &worker = worker, out = &results[name]] {
        for (std::size_t i = 0; i < plans.size(); ++i)
          EXPECT_TRUE(worker.runner->Run(plans[i], &(*out)[i]).ok());
      });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }

  StepPlan Plan(std::uint64_t id, const std::function<void(v1::StepPlan*)>& fill) {
    v1::StepPlan message = NewStep(id, 1);
    fill(&message);
    return FromProto(message);
  }

  TraceRecorder trace_;
  std::map<std::string, int> pages_;
  std::map<std::string, Worker> workers_;
};

}  // namespace tandem
