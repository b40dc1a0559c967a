#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"
#include "lib/model/stage_cost.h"

namespace tandem {

// How long a step takes under a plan, from what its stages take on their workers. Pure functions;
// the times are measured by the workers (cluster_measure.cc).

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
};

// A step of one sequence.
struct StepShape {
  CostPoint point;
  // The last of its tokens is followed by a new one.
  bool samples = true;
  std::int32_t micro_batches = 1;
};

struct StepPrediction {
  double seconds = 0;
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

  ModelConfig config_;
  std::vector<WorkerCosts> workers_;
  std::vector<PairCosts> pairs_;
};

// What both workers say of rows that went round between them, as the time of a hand-over: what
// their stages do not take of a round. INVALID_ARGUMENT where they do not speak of the same.
absl::StatusOr<HopCosts> TakeHandovers(const EdgeCosts& first, const EdgeCosts& second);

}  // namespace tandem
