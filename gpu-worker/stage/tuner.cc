#include "gpu-worker/stage/tuner.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "gpu-worker/stage/dispatch_timer.h"
#include "gpu-worker/stage/tuning_profile.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_program.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "lib/base/deadline.h"
#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

constexpr std::int32_t kContext = 512;  // of a sequence, before the step
constexpr std::int32_t kMostSequences = 8;
constexpr std::int32_t kMostTokens = 128;
constexpr std::int32_t kBlocks = (kContext + kMostTokens) / kKvBlockTokens;  // of a sequence
constexpr int kWarmRuns = 3;
constexpr int kRuns = 7;
constexpr double kWorthIt = 0.98;

std::optional<std::int32_t> WholeLayer(const ModelConfig& config,
                                       const std::vector<std::shared_ptr<const Weights>>& weights) {
  const auto there = [&](const std::string& name) {
    return std::any_of(weights.begin(), weights.end(),
                       [&](const auto& part) { return part->manifest().name == name; });
  };
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    if (there(RegionName(WeightPart::kAttention, layer)) &&
        there(RegionName(WeightPart::kFfn, layer)))
      return layer;
  }
  return std::nullopt;
}

// One layer with memory of its own.
class Rig {
 public:
  Rig(const DeviceContext& context, const ModelConfig& config,
      const std::vector<std::shared_ptr<const Weights>>& weights, std::int32_t layer)
      : context_(context), config_(config), weights_(weights), layer_(layer) {}

  absl::Status Prepare() {
    KvCacheSpec cache;
    cache.layers = {layer_};
    cache.type = KvType::kFloat16;
    cache.global_blocks = cache.window_blocks = kMostSequences * kBlocks;
    TANDEM_ASSIGN_OR_RETURN(cache_, VulkanKvCache::Create(context_.device, config_, cache));
    const ResidualLayout layout = MakeResidualLayout(1, kMostTokens, config_.hidden_size);
    TANDEM_ASSIGN_OR_RETURN(input_, VulkanResidual::Create(context_.device, layout));
    TANDEM_ASSIGN_OR_RETURN(output_, VulkanResidual::Create(context_.device, layout));
    return absl::OkStatus();
  }

  // Seconds of the step with `tuning`, by the device's clock: the shortest of several.
  absl::StatusOr<double> Time(const Tuning& tuning, const TunedStep& step) const {
    DispatchTimer timer;
    const DeviceContext context{context_.device, context_.pipelines, tuning, context_.fragments,
                                &timer};
    ProgramSpec spec;
    spec.weights = weights_;
    spec.kv_cache = cache_.get();
    spec.activations = ActivationType::kAuto;
    spec.limits = {.max_tokens = step.sequences * step.tokens,
                   .max_sequences = step.sequences,
                   .max_logit_rows = 0,
                   .max_blocks_per_sequence = kBlocks};
    spec.contexts = 1;
    spec.stages = {
        {{.embed = false, .first_half = 2 * layer_, .last_half = 2 * layer_ + 2, .head = false},
         input_.get(),
         output_.get()}};
    TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<VulkanProgram> program,
                            VulkanProgram::Create(context, config_, spec));
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kWarmRuns + kRuns; ++run) {
      TANDEM_ASSIGN_OR_RETURN(const double seconds, Run(*program, step, timer));
      if (run >= kWarmRuns) best = std::min(best, seconds);
    }
    return best;
  }

 private:
  static absl::StatusOr<double> Run(VulkanProgram& program, const TunedStep& shape,
                                    const DispatchTimer& timer) {
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(kMostSequences * kBlocks));
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(shape.sequences * shape.tokens), 0);
    std::vector<StepSequence> sequences;
    for (std::int32_t s = 0; s < shape.sequences; ++s) {
      const auto table = std::span<const std::int32_t>(blocks).subspan(
          static_cast<std::size_t>(s * kBlocks), static_cast<std::size_t>(kBlocks));
      sequences.push_back({s, s * shape.tokens, shape.tokens, kContext, table, table});
    }
    TANDEM_RETURN_IF_ERROR(program.Begin(0, {1, tokens, sequences, {}}));
    TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, program.Submit(0, 0, 0, 0));
    TANDEM_RETURN_IF_ERROR(program.Wait(ticket, Deadline::After(absl::Seconds(60))));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<DispatchTimer::Entry> entries, timer.Last());
    double seconds = 0;
    for (const DispatchTimer::Entry& entry : entries) seconds += entry.seconds;
    return seconds;
  }

  const DeviceContext& context_;
  const ModelConfig& config_;
  const std::vector<std::shared_ptr<const Weights>>& weights_;
  const std::int32_t layer_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<ResidualBuffer> input_;
  std::unique_ptr<ResidualBuffer> output_;
};

}  // namespace

absl::StatusOr<Tuning> Tune(const DeviceContext& context, const ModelConfig& config,
                            const std::vector<std::shared_ptr<const Weights>>& weights,
                            const TunerOptions& options) {
  const std::optional<std::int32_t> layer = WholeLayer(config, weights);
  if (!layer.has_value()) return absl::NotFoundError("no layer is whole on this device");
  Rig rig(context, config, weights, *layer);
  TANDEM_RETURN_IF_ERROR(rig.Prepare());
  const absl::Time end = absl::Now() + options.most;
  Tuning best = context.tuning;
  for (const TuningField& field : TuningFields()) {
    if (absl::Now() > end) break;
    TANDEM_ASSIGN_OR_RETURN(double least, rig.Time(best, field.step));
    if (options.on_measured) {
      options.on_measured(std::string(field.name), field.get(best), least);
    }
    for (const std::uint32_t value : field.values) {
      Tuning tried = best;
      field.set(tried, value);
      CutTuning(context.device.physical(), &tried);
      const bool fits = field.get(tried) == value;
      if (!fits || value == field.get(best) || absl::Now() > end) continue;
      const absl::StatusOr<double> seconds = rig.Time(tried, field.step);
      // What the device refuses is no candidate; a lost one is found by what comes next.
      if (!seconds.ok()) continue;
      if (options.on_measured) options.on_measured(std::string(field.name), value, *seconds);
      if (*seconds >= least * kWorthIt) continue;
      least = *seconds;
      best = tried;
    }
  }
  return best;
}

}  // namespace tandem
