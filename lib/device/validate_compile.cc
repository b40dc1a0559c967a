#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

absl::Status Bad(const StageSpec& spec, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("stage '", StageSpecName(spec), "': ", what));
}

absl::Status CheckSpec(const ModelConfig& config, const StageSpec& spec) {
  const std::int32_t halves = 2 * config.num_layers;
  if (spec.first_half < 0 || spec.last_half < spec.first_half || spec.last_half > halves) {
    return Bad(spec, absl::StrCat("expected half layers within [0, ", halves, "), found [",
                                  spec.first_half, ", ", spec.last_half, ")"));
  }
  if (spec.embed && spec.first_half != 0) {
    return Bad(spec,
               absl::StrCat("a stage that embeds starts at half layer 0, found ", spec.first_half));
  }
  if (spec.head && spec.last_half != halves) {
    return Bad(spec, absl::StrCat("a stage with the head ends at half layer ", halves, ", found ",
                                  spec.last_half));
  }
  if (!spec.embed && !spec.head && spec.first_half == spec.last_half) {
    return Bad(spec, "expected an embedding, half layers or a head, found none of them");
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const StageSpec& spec, const StepLimits& limits) {
  if (limits.max_tokens < 1 || limits.max_sequences < 1 || limits.max_logit_rows < 0 ||
      limits.max_blocks_per_sequence < 1) {
    return Bad(spec, absl::StrCat("expected positive step limits, found max_tokens ",
                                  limits.max_tokens, ", max_sequences ", limits.max_sequences,
                                  ", max_logit_rows ", limits.max_logit_rows,
                                  ", max_blocks_per_sequence ", limits.max_blocks_per_sequence));
  }
  return absl::OkStatus();
}

absl::Status CheckWeights(const StageSpec& spec, const StageBindings& bindings) {
  std::set<std::string> found;
  for (const auto& weights : bindings.weights) {
    if (weights == nullptr) return Bad(spec, "a bound region of weights is null");
    found.insert(weights->manifest().name);
  }
  std::set<std::string> needed;
  if (spec.embed || spec.head) needed.insert(RegionName(WeightPart::kEmbedding, -1));
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    needed.insert(RegionName(half % 2 == 0 ? WeightPart::kAttention : WeightPart::kFfn, half / 2));
  }
  for (const std::string& name : needed) {
    if (!found.contains(name)) {
      return Bad(spec, absl::StrCat("expected weights of region '", name, "', found none"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckKvCache(const ModelConfig& config, const StageSpec& spec, const KvCache* cache) {
  if (!spec.HasAttention()) return absl::OkStatus();
  if (cache == nullptr) return Bad(spec, "expected a KV cache, found none");
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    if (half % 2 == 1) continue;
    const std::int32_t layer = half / 2;
    const auto& layers = cache->spec().layers;
    if (std::find(layers.begin(), layers.end(), layer) == layers.end()) {
      return Bad(spec, absl::StrCat("expected layer ", layer, " in the KV cache, found none"));
    }
    const bool global = config.layer_is_global[static_cast<std::size_t>(layer)];
    if ((global ? cache->spec().global_blocks : cache->spec().window_blocks) < 1) {
      return Bad(spec, absl::StrCat("the KV cache has no blocks for ",
                                    global ? "global" : "sliding-window", " layer ", layer));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResidual(const ModelConfig& config, const StageSpec& spec,
                           const StepLimits& limits, const ResidualBuffer* buffer, bool wanted,
                           absl::string_view which) {
  if (!wanted) {
    if (buffer == nullptr) return absl::OkStatus();
    return Bad(spec, absl::StrCat("expected no ", which, " residual, found one"));
  }
  if (buffer == nullptr)
    return Bad(spec, absl::StrCat("expected an ", which, " residual, found none"));
  const ResidualLayout& layout = buffer->layout();
  if (layout.hidden_size != config.hidden_size || layout.max_tokens < limits.max_tokens ||
      layout.slots < 1) {
    return Bad(
        spec, absl::StrCat("expected an ", which, " residual of at least ", limits.max_tokens,
                           " tokens x ", config.hidden_size, ", found ", layout.slots, " slots of ",
                           layout.max_tokens, " x ", layout.hidden_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateCompile(const ModelConfig& config, const StageSpec& spec,
                             const StageBindings& bindings, const CompileOptions& options) {
  TANDEM_RETURN_IF_ERROR(CheckSpec(config, spec));
  TANDEM_RETURN_IF_ERROR(CheckLimits(spec, options.limits));
  TANDEM_RETURN_IF_ERROR(CheckWeights(spec, bindings));
  TANDEM_RETURN_IF_ERROR(CheckKvCache(config, spec, bindings.kv_cache));
  TANDEM_RETURN_IF_ERROR(
      CheckResidual(config, spec, options.limits, bindings.input, !spec.embed, "input"));
  return CheckResidual(config, spec, options.limits, bindings.output, !spec.head, "output");
}

}  // namespace tandem
