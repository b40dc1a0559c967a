#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"
#include "lib/model/stage_cost.h"

namespace tandem {

// How long a step takes under a plan, from what its stages take on their workers. Pure functions;
// the times are measured by the workers (cluster_measure.cc).

// What a step takes longer than its stages take by themselves, on a worker that computes all of it:
// for messages to it and back, threads that wake up, what the gateway does for a step, and stages
// that share their processor with all that. Measured with steps that go the way of a plan's
// (step_stopwatch.h).
struct StepOverhead {
  // Behind a step that is under way, as of an answer; and of a step by itself, as of a prompt.
  double following_seconds = 0;
  double lone_seconds = 0;
  bool operator==(const StepOverhead&) const = default;
};

// What a worker has measured.
struct WorkerCosts {
  std::string worker;
  // "CPU AMD EPYC"
  std::string device;
  std::vector<StageCost> costs;
  // Not empty: why there are none.
  std::string error;
  // Measured at an earlier start.
  bool kept = false;
  // Nothing: it counts as none.
  std::optional<StepOverhead> overhead = std::nullopt;
};

// Of a hand-over: for any rows, and for each row.
struct HopCosts {
  double seconds = 0;
  double row_seconds = 0;
  bool operator==(const HopCosts&) const = default;
};

// What two workers are to each other.
struct PairCosts {
  std::string first;
  std::string second;
  // How many times as long a stage takes while the other one computes, too: 1 for devices that
  // share nothing, 2 for two that share all.
  double slowdown = 1;
  // Of rows of the residual; and under plans that cut attention out of its layers, whose rows are
  // wider: the mean of both ways, which they go alternately.
  HopCosts hop;
  HopCosts cut_hop;
  // Of the edge that was measured; empty: none was, and a hand-over counts as nothing.
  std::string edge_kind;
  bool kept = false;
  // What a step of the one takes longer where the other one is sent it, too.
  double message_seconds = 0;
};

// A step of one sequence.
struct StepShape {
  CostPoint point;
  // The last of its tokens is followed by a new one.
  bool samples = true;
  std::int32_t micro_batches = 1;
  // It is sent to both workers, also where the route passes one by.
  bool to_both = false;
};

struct StepPrediction {
  double seconds = 0;
  // Of them, beside stages and hand-overs.
  double overhead_seconds = 0;
  // Hand-overs between workers, of all micro-batches, and how many rows they have.
  std::int32_t hops = 0;
  std::int64_t hop_rows = 0;
};

class StepModel {
 public:
  StepModel(ModelConfig config, std::vector<WorkerCosts> workers, std::vector<PairCosts> pairs);

  // Stages follow each other; with micro-batches workers compute at once as far as they do not slow
  // each other down. NOT_FOUND names what was not measured.
  absl::StatusOr<StepPrediction> Predict(const std::vector<StagePlacement>& route,
                                         const StepShape& shape) const;
  // Between points that were measured straight lines, beyond them the last one goes on; attention
  // takes as much longer as there are keys that its tokens see.
  absl::StatusOr<double> CostOf(std::string_view worker, CostKind kind,
                                const CostPoint& point) const;

  const std::vector<WorkerCosts>& workers() const { return workers_; }
  const std::vector<PairCosts>& pairs() const { return pairs_; }

 private:
  // What one worker does in one submission.
  struct Segment {
    std::string worker;
    // Of each kind; the products of a layer's attention are what it takes less without them.
    double counts[kNumCostKinds] = {};
    // How often they hold what a submission costs, without the head.
    std::int32_t parts = 0;
  };
  std::vector<Segment> SegmentsOf(const std::vector<StagePlacement>& route) const;
  absl::StatusOr<double> SegmentSeconds(const Segment& segment, const CostPoint& point,
                                        bool samples) const;
  PairCosts Between(const std::string& a, const std::string& b) const;
  // None where it was not measured.
  StepOverhead OverheadOf(std::string_view worker) const;

  ModelConfig config_;
  std::vector<WorkerCosts> workers_;
  std::vector<PairCosts> pairs_;
};

// The layers that are measured, [first, last): a run with both kinds, where there are both, and
// with enough weights.
std::pair<std::int32_t, std::int32_t> LayersToMeasure(const ModelConfig& config,
                                                      std::uint64_t weight_bytes);

// What both workers say of rows that went round between them, as the time of a hand-over: what
// their stages do not take of a round. INVALID_ARGUMENT where they do not speak of the same.
absl::StatusOr<HopCosts> TakeHandovers(const EdgeCosts& first, const EdgeCosts& second);

}  // namespace tandem
