#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "lib/base/deadline.h"
#include "lib/base/thread_pool.h"
#include "lib/base/trace.h"
#include "lib/device/program.h"
#include "lib/sample/candidates.h"
#include "lib/sample/sampler.h"
#include "lib/step/step_plan.h"
#include "lib/worker/constraints.h"
#include "lib/worker/edge.h"
#include "lib/worker/embedding_head.h"
#include "lib/worker/slot_table.h"
#include "lib/worker/stage_layout.h"
#include "lib/worker/step_work.h"

namespace tandem {

// Runs the steps of one generation on one worker, as the list for their route and micro-batches
// says (stage_layout.h). Run is called by one thread; the others by any. In steady state a step
// allocates nothing but the lists of log-probabilities and sums of hidden states that it answers.
class StepRunner final : public StepWork {
 public:
  struct Parts {
    std::uint64_t generation = 0;
    StageLayout layout;
    SlotBounds bounds;
    // Stages as layout.stages; a context for each micro-batch.
    std::unique_ptr<Program> program;
    // As layout.edges; they outlive the runner.
    std::vector<Edge*> edges;
    // Outlives the runner; may be null.
    TraceRecorder* trace = nullptr;
    // For constraints, where the head stands; without it requests that have one fail.
    std::shared_ptr<MaskCache> masks = nullptr;
    // Where the head stands and the model has one.
    std::optional<EmbeddingHead> embedding_head = std::nullopt;
  };
  explicit StepRunner(Parts parts);

  std::uint64_t generation() const { return parts_.generation; }

  // A malformed step answers INVALID_ARGUMENT and changes nothing but the expected step id and the
  // edges' numbers.
  absl::Status Run(const StepPlan& plan, StepResult* result) override;
  void Interrupt() override;
  void ClearInterrupt() override;
  void Describe(v1::WorkerDescription* description) const override;

 private:
  struct StageStats {
    std::uint64_t runs = 0;
    std::int64_t run_ns = 0;
    std::int64_t wait_ns = 0;
  };

  absl::Status CheckOrder(const StepPlan& plan) const;
  absl::Status CheckTimeout(const StepPlan& plan) const;
  absl::Status CheckRoute(const StepPlan& plan) const;
  // Both ends of an edge count by it, also for a step that is refused.
  std::size_t RouteOf(const StepPlan& plan) const;
  absl::Status RunInOrder(const StepPlan& plan, StepResult* result);
  absl::Status RunList(const std::vector<ListEntry>& list, Deadline deadline, StepResult* result);
  absl::Status RunEntry(const ListEntry& entry, Deadline deadline, StepResult* result);
  absl::Status Compute(const ListEntry& entry, Deadline deadline);
  // What the step says of constraints: slots that begin and end, tokens that were known to come.
  void TakeConstraints(const StepPlan& plan);
  absl::Status Sample(std::int32_t micro_batch, Deadline deadline, StepResult* result);
  // What came of a row of logits: what its use asks for.
  struct RowResult {
    absl::Status status;
    // What a constraint allows; before the row is used.
    ConstraintTable::Choice choice;
    std::optional<SampledToken> scored;
    std::optional<SampledToken> sampled;
  };
  // By candidates; false where they do not tell.
  bool UseCandidates(std::int32_t micro_batch, std::int32_t row, const LogitUse& use,
                     RowResult* result);
  absl::StatusOr<ConstraintTable::Choice> ChoiceOf(const LogitUse& use, Deadline deadline);
  void UseRow(std::span<const float> row, const LogitUse& use, Sampler& sampler,
              RowResult* result) const;
  // Rows of the micro-batch that candidates do not tell of, several at a time.
  absl::Status UseLogits(std::int32_t micro_batch);
  // Hands on what came of a row, and follows the slot's constraint by what was sampled.
  absl::Status TakeRow(const LogitUse& use, RowResult& row, SequenceResult* answer);
  // Adds to the sums of hidden states that the micro-batch's shares ask for.
  absl::Status Pool(std::int32_t micro_batch, StepResult* result);
  // The head could not use what a slot came to: its share answers that and nothing else.
  void FailShare(std::int32_t slot, const absl::Status& status, SequenceResult* answer);
  void Account(const ListEntry& entry, std::int64_t begin_ns, std::int64_t end_ns, bool ok);
  // Hand-overs before this step's number are given up by this end.
  void BeginEdges();
  // "stage 'ffn 3'", for errors.
  std::string NameOf(const ListEntry& entry) const;

  EdgeControl& ControlOf(int edge) const {
    return *parts_.edges[static_cast<std::size_t>(edge)]->control;
  }
  std::uint64_t Sequence(int edge, std::int32_t number) const {
    return bases_[static_cast<std::size_t>(edge)] + static_cast<std::uint64_t>(number);
  }

  Parts parts_;
  // lists_[r][m - 1] is for route r and m micro-batches.
  std::vector<std::vector<std::vector<ListEntry>>> lists_;
  SlotTable slots_;
  // Where the head stands.
  CandidateSampler candidate_sampler_;
  CandidateMemory candidates_;
  std::unique_ptr<ThreadPool> sampling_threads_;
  // One a thread.
  std::vector<Sampler> samplers_;
  // Of the rows of a micro-batch; and which of them need their logits.
  std::vector<RowResult> row_results_;
  std::vector<std::int32_t> whole_rows_;
  // Null without the vocabulary.
  std::unique_ptr<ConstraintTable> constraints_;
  StepBatch batch_;
  // Of each edge: the sequence of hand-over 0 of the next step. Grows with every step that comes in
  // its order, whatever becomes of it: so both ends agree.
  std::vector<std::uint64_t> bases_;
  bool any_step_ = false;
  std::uint64_t next_step_id_ = 0;
  bool device_lost_ = false;
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> computing_{false};

  // Of the step that runs.
  std::vector<StageStats> step_stats_;
  std::vector<std::int64_t> step_edge_wait_ns_;
  mutable std::mutex stats_mutex_;
  std::vector<StageStats> stats_;
  // Waits for each edge's other end.
  std::vector<std::int64_t> edge_wait_ns_;
  std::uint64_t steps_done_ = 0;
  std::uint64_t tokens_done_ = 0;
};

}  // namespace tandem
