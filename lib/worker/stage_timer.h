#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/deadline.h"
#include "lib/device/device.h"
#include "lib/model/stage_cost.h"
#include "lib/sample/sampler.h"

namespace tandem {

// Which layers' stages are timed, and how they are compiled.
struct StageTimerSpec {
  ModelConfig config;
  // [first_layer, last_layer), not empty.
  std::int32_t first_layer = 0;
  std::int32_t last_layer = 0;
  StepLimits limits;
  ActivationType activations = ActivationType::kAuto;
  KvType kv_type = KvType::kFloat16;
  // All within the limits; the largest that will be asked for are among them.
  std::vector<CostPoint> points;
};

// INVALID_ARGUMENT names what is wrong.
absl::Status ValidateStageTimerSpec(const StageTimerSpec& spec);
// The regions that it needs.
std::vector<std::string> RegionsOf(const StageTimerSpec& spec);

// The stages of some layers, compiled one by one and as one, with memory of the device's own
// between them, and a stopwatch. All layers are gone through in turn, so that weights come from
// where they come from in a real step: not from a cache that holds one layer. Any thread; calls
// wait for each other.
class StageTimer {
 public:
  // `weights`: RegionsOf. The device must outlive it.
  static absl::StatusOr<std::unique_ptr<StageTimer>> Create(
      Device& device, std::vector<std::shared_ptr<const Weights>> weights, StageTimerSpec spec);

  const StageTimerSpec& spec() const { return spec_; }

  // The layers that a round goes through, [first, last), and their stage for all in one submission.
  struct Span {
    std::int32_t first = 0;
    std::int32_t last = 0;
    std::int32_t whole_stage = 0;
    std::int32_t halves() const { return 2 * (last - first); }
  };

  // The first point of the spec, the first with several tokens, and of the others, in order, those
  // that do not take longer than what is left of `limit`; then all of them again and again in what
  // is left of it, so that no point is measured in one moment alone. The median of all rounds
  // counts. A point whose rounds would take long is measured with one layer of each kind.
  // DEADLINE_EXCEEDED where not even the first point was done; CANCELLED when `cancelled` says so,
  // which is asked between submissions.
  using Cancelled = std::function<bool()>;
  absl::StatusOr<std::vector<StageCost>> MeasureAll(absl::Duration limit,
                                                    const Cancelled& cancelled);
  // One point again and again until `duration` has passed, and the mean of it.
  absl::StatusOr<std::vector<StageCost>> Repeat(const CostPoint& point, absl::Duration duration,
                                                const Cancelled& cancelled);

  // A step of the point as a plan runs it: taken, embedded, all layers in one submission (`few`:
  // one of each kind), head and sample; seconds of it. INVALID_ARGUMENT where the point is beyond
  // the limits, DEADLINE_EXCEEDED, CANCELLED after Interrupt.
  absl::StatusOr<double> RunStep(const CostPoint& point, bool few, Deadline deadline);
  // Ends soon the step that runs, and every one until ClearInterrupt. Waits for nobody.
  void Interrupt();
  void ClearInterrupt() { interrupted_.store(false); }

 private:
  // What was measured of a point.
  struct Measured {
    CostPoint point;
    Span span;
    // Of its last round.
    double round_seconds = 0;
    std::vector<std::vector<StageCost>> rounds;
  };
  // Seconds of one round.
  struct Round {
    Span span;
    double begin = 0;
    double embed = 0;
    // Attention and feed-forward half of each layer of the span.
    std::vector<double> halves;
    // Attention alone, of each layer.
    std::vector<double> attends;
    // All layers in one submission.
    double whole = 0;
    double head = 0;
    double total = 0;
  };
  StageTimer(Device& device, StageTimerSpec spec);

  absl::Status Allocate();
  absl::Status Compile(std::vector<std::shared_ptr<const Weights>> weights);
  absl::StatusOr<Round> RunRound(const CostPoint& point, const Span& span, Deadline deadline,
                                 const Cancelled& cancelled);
  // Its first rounds.
  absl::Status StartPoint(Measured* measured, Deadline share, Deadline hard,
                          const Cancelled& cancelled);
  // Of all points in turn, until the end.
  absl::Status AddRounds(std::vector<Measured>* points, Deadline end, Deadline hard,
                         const Cancelled& cancelled);
  absl::Status AddRound(Measured* measured, Deadline hard, const Cancelled& cancelled);
  absl::Status Begin(const CostPoint& point);
  // Whether it is within what the stages were compiled for, and the cache has room for it.
  absl::Status CheckPoint(const CostPoint& point) const;
  // Seconds that the stage took.
  absl::StatusOr<double> RunStage(std::int32_t stage, Deadline deadline);
  absl::Status Sample();
  std::vector<StageCost> CostsOf(const CostPoint& point, const Round& round) const;

  Device& device_;
  const StageTimerSpec spec_;
  // One call at a time.
  std::mutex mutex_;
  // Of RunStep: to end; and a stage of it is under way.
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> stepping_{false};
  std::unique_ptr<KvCache> kv_cache_;
  // Stages read one and write the other.
  std::unique_ptr<ResidualBuffer> residuals_[2];
  std::unique_ptr<Program> program_;
  // All layers, and one of each kind. Their halves are the stages 1, 2, ... of the program, from
  // the first layer of all on; the embedding is 0.
  Span all_;
  Span few_;
  std::int32_t head_stage_ = 0;
  // The first of those with attention alone, one a layer.
  std::int32_t attend_stage_ = 0;
  Sampler sampler_;
  // Of the step that runs.
  std::vector<std::int32_t> tokens_;
  std::vector<std::int32_t> blocks_;
};

}  // namespace tandem
