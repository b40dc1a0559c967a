#include "lib/wire/model_wire.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "tandem/v1/loader.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

constexpr std::int32_t kMaxBlocksPerSequence = kMaxContextTokens / kKvBlockTokens;

absl::Status CheckRange(const char* field, std::int32_t value, std::int32_t least,
                        std::int32_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("StepLimits.", field, ": expected ", least, " to ", most, ", found ", value));
}

}  // namespace

v1::ModelConfig ToProto(const ModelConfig& config) {
  v1::ModelConfig message;
  message.set_name(config.name);
  message.set_vocab_size(config.vocab_size);
  message.set_hidden_size(config.hidden_size);
  message.set_ffn_size(config.ffn_size);
  message.set_num_layers(config.num_layers);
  message.set_num_heads(config.num_heads);
  message.set_num_kv_heads(config.num_kv_heads);
  message.set_head_dim(config.head_dim);
  message.set_max_positions(config.max_positions);
  message.set_sliding_window(config.sliding_window);
  message.set_rms_norm_eps(config.rms_norm_eps);
  message.set_query_pre_attn_scalar(config.query_pre_attn_scalar);
  message.set_rope_theta_global(config.rope_theta_global);
  message.set_rope_theta_local(config.rope_theta_local);
  message.set_rope_factor_global(config.rope_factor_global);
  for (const bool global : config.layer_is_global) message.add_layer_is_global(global);
  message.set_bos_id(config.bos_id);
  for (const std::int32_t id : config.eos_ids) message.add_eos_ids(id);
  message.set_bidirectional(config.bidirectional);
  message.set_dense_size(config.dense_size);
  return message;
}

absl::StatusOr<ModelConfig> FromProto(const v1::ModelConfig& message) {
  ModelConfig config;
  config.name = message.name();
  config.vocab_size = message.vocab_size();
  config.hidden_size = message.hidden_size();
  config.ffn_size = message.ffn_size();
  config.num_layers = message.num_layers();
  config.num_heads = message.num_heads();
  config.num_kv_heads = message.num_kv_heads();
  config.head_dim = message.head_dim();
  config.max_positions = message.max_positions();
  config.sliding_window = message.sliding_window();
  config.rms_norm_eps = message.rms_norm_eps();
  config.query_pre_attn_scalar = message.query_pre_attn_scalar();
  config.rope_theta_global = message.rope_theta_global();
  config.rope_theta_local = message.rope_theta_local();
  config.rope_factor_global = message.rope_factor_global();
  config.layer_is_global.assign(message.layer_is_global().begin(), message.layer_is_global().end());
  config.bos_id = message.bos_id();
  config.eos_ids.assign(message.eos_ids().begin(), message.eos_ids().end());
  config.bidirectional = message.bidirectional();
  config.dense_size = message.dense_size();
  TANDEM_RETURN_IF_ERROR(Annotate(ValidateModelConfig(config), "ModelConfig"));
  return config;
}

v1::Plan ToProto(const Plan& plan) {
  v1::Plan message;
  message.set_name(plan.name);
  for (const PlanRoute& route : plan.routes) {
    v1::PlanRoute& to = *message.add_routes();
    to.set_use(std::string(NameOf(route.use)));
    for (const StagePlacement& stage : route.stages) {
      v1::StagePlacement& out = *to.add_stages();
      out.set_worker(stage.worker);
      out.set_part(std::string(NameOf(stage.part)));
      out.set_first_layer(stage.first_layer);
      out.set_last_layer(stage.last_layer);
    }
  }
  return message;
}

absl::StatusOr<Plan> FromProto(const v1::Plan& message, const ModelConfig& config) {
  Plan plan;
  plan.name = message.name();
  for (int r = 0; r < message.routes_size(); ++r) {
    const v1::PlanRoute& from = message.routes(r);
    const std::string route = absl::StrCat("Plan.routes[", r, "]");
    absl::StatusOr<RouteUse> use = ParseEnum<RouteUse>("route use", from.use());
    if (!use.ok()) return Annotate(use.status(), absl::StrCat(route, ".use"));
    plan.routes.push_back({*use, {}});
    for (int i = 0; i < from.stages_size(); ++i) {
      const v1::StagePlacement& in = from.stages(i);
      const std::string field = absl::StrCat(route, ".stages[", i, "]");
      if (in.worker().empty())
        return absl::InvalidArgumentError(
            absl::StrCat(field, ".worker: expected a name, found none"));
      absl::StatusOr<StagePart> part = ParseEnum<StagePart>("stage part", in.part());
      if (!part.ok()) return Annotate(part.status(), absl::StrCat(field, ".part"));
      plan.routes.back().stages.push_back({in.worker(), *part, in.first_layer(), in.last_layer()});
    }
  }
  std::vector<PlanWorker> workers;
  for (const std::string& name : WorkersOf(plan)) workers.push_back({name});
  TANDEM_RETURN_IF_ERROR(Annotate(ValidatePlan(plan, config, workers), "Plan"));
  return plan;
}

v1::StepLimits ToProto(const StepLimits& limits) {
  v1::StepLimits message;
  message.set_max_tokens(limits.max_tokens);
  message.set_max_sequences(limits.max_sequences);
  message.set_max_logit_rows(limits.max_logit_rows);
  message.set_max_blocks_per_sequence(limits.max_blocks_per_sequence);
  message.set_max_decode_tokens(limits.max_decode_tokens);
  return message;
}

absl::StatusOr<StepLimits> FromProto(const v1::StepLimits& message) {
  StepLimits limits;
  limits.max_tokens = message.max_tokens();
  limits.max_sequences = message.max_sequences();
  limits.max_logit_rows = message.max_logit_rows();
  limits.max_blocks_per_sequence = message.max_blocks_per_sequence();
  limits.max_decode_tokens = message.max_decode_tokens();
  TANDEM_RETURN_IF_ERROR(CheckRange("max_tokens", limits.max_tokens, 1, kMaxStepTokens));
  TANDEM_RETURN_IF_ERROR(CheckRange("max_sequences", limits.max_sequences, 1, kMaxStepSequences));
  TANDEM_RETURN_IF_ERROR(CheckRange("max_logit_rows", limits.max_logit_rows, 1, kMaxStepTokens));
  TANDEM_RETURN_IF_ERROR(CheckRange("max_blocks_per_sequence", limits.max_blocks_per_sequence, 1,
                                    kMaxBlocksPerSequence));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("max_decode_tokens", limits.max_decode_tokens, 0, limits.max_tokens));
  return limits;
}

}  // namespace tandem
