#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/device/program.h"
#include "lib/sample/sampler.h"
#include "lib/worker/edge.h"
#include "lib/worker/slot_table.h"
#include "lib/worker/stage_layout.h"

namespace tandem::v1 {
class SequenceResult;
class StepPlan;
class StepResult;
class WorkerDescription;
}  // namespace tandem::v1

namespace tandem {

// Runs the steps of one generation on one worker: for every stage in plan order it waits for the
// edge before it, submits, waits for the device and publishes on the edge behind it; after the head
// it samples and scores. Run is called by one thread; the others by any.
class StepRunner {
 public:
  struct Parts {
    std::uint64_t generation = 0;
    StageLayout layout;
    SlotBounds bounds;
    // Its stages as layout.stages.
    std::unique_ptr<Program> program;
    std::vector<Edge*> edges;  // as layout.edges; they outlive the runner
  };
  explicit StepRunner(Parts parts);

  std::uint64_t generation() const { return parts_.generation; }

  // Always fills *result. An invalid step answers INVALID_ARGUMENT and changes nothing but the
  // expected step id. The returned status is not OK when the device is lost (UNAVAILABLE): nothing
  // may be served from it again.
  absl::Status Run(const v1::StepPlan& plan, v1::StepResult* result);

  // Ends the waits of the step that runs, and its stage; it answers CANCELLED. Holds until
  // ClearInterrupt.
  void Interrupt();
  void ClearInterrupt();

  void Describe(
      v1::WorkerDescription* description) const;  // stages, edges, steps_done, tokens_done

 private:
  struct StageStats {
    std::uint64_t runs = 0;
    absl::Duration run;
    absl::Duration wait;
  };

  absl::Status CheckOrder(const v1::StepPlan& plan);
  absl::Status RunStages(absl::Time deadline, StageStats* total);
  absl::Status RunStage(std::size_t index, absl::Time deadline, StageStats* stats);
  absl::Status Compute(std::size_t index, std::int32_t input_slot, std::int32_t output_slot,
                       absl::Time deadline);
  absl::Status UseLogits(v1::StepResult* result);
  std::uint64_t SequenceOf(int edge, std::int32_t hop) const;

  Parts parts_;
  SlotTable slots_;
  std::unique_ptr<Sampler> sampler_;  // where the head stands
  StepBatch batch_;
  bool any_step_ = false;
  std::uint64_t first_step_id_ = 0;
  std::uint64_t step_index_ = 0;  // steps before this one
  bool device_lost_ = false;
  std::atomic<bool> interrupted_{false};

  mutable std::mutex stats_mutex_;
  std::vector<StageStats> stats_;
  std::uint64_t steps_done_ = 0;
  std::uint64_t tokens_done_ = 0;
};

}  // namespace tandem
