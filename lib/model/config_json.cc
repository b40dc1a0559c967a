// config.json -> ModelConfig. The keys are those of transformers' Gemma3Config and
// Gemma3TextConfig, old and new.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/config.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxShownBytes = 60;

// A value in an error text: short, on one line.
std::string Shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kMaxShownBytes) text.replace(kMaxShownBytes, std::string::npos, "...");
  return text;
}

absl::Status Wrong(std::string_view key, std::string_view expected, const Json& found) {
  return absl::InvalidArgumentError(absl::StrCat("'", AbslView(key), "': expected ",
                                                 AbslView(expected), ", found ", Shown(found)));
}

// The member `key`, or null where it is left out or null itself (which means "the default" in these
// files).
const Json* Member(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return nullptr;
  return &*it;
}

absl::Status ReadInt(const Json& object, const char* key, std::int32_t& out) {
  const Json* value = Member(object, key);
  if (value == nullptr) return absl::OkStatus();
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() ||
                     value->get<std::uint64_t>() <= std::numeric_limits<std::int32_t>::max()) &&
                    value->get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max() &&
                    value->get<std::int64_t>() >= 0;
  if (!fits) return Wrong(key, "a whole number of 0 to 2147483647", *value);
  out = value->get<std::int32_t>();
  return absl::OkStatus();
}

absl::Status ReadFloat(const Json& object, const char* key, float& out) {
  const Json* value = Member(object, key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number() || !std::isfinite(static_cast<float>(value->get<double>()))) {
    return Wrong(key, "a finite number", *value);
  }
  out = static_cast<float>(value->get<double>());
  return absl::OkStatus();
}

// What the arithmetic of Gemma 3 has one way of doing: a file that asks for another is refused, not
// half obeyed.
absl::Status RefuseUnsupported(const Json& text) {
  if (const Json* v = Member(text, "hidden_activation");
      v != nullptr && *v != "gelu_pytorch_tanh") {
    return Wrong("hidden_activation", "\"gelu_pytorch_tanh\"", *v);
  }
  if (const Json* v = Member(text, "attention_bias"); v != nullptr && *v != false) {
    return Wrong("attention_bias", "false", *v);
  }
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (const Json* v = Member(text, key); v != nullptr) return Wrong(key, "null", *v);
  }
  if (const Json* v = Member(text, "tie_word_embeddings"); v != nullptr && *v != true) {
    return Wrong("tie_word_embeddings", "true", *v);
  }
  return absl::OkStatus();
}

// {"rope_type": "default"} or {"rope_type": "linear", "factor": f}; older files say "type".
absl::Status ReadRopeScaling(const Json& scaling, const char* where, float& factor) {
  if (!scaling.is_object()) return Wrong(where, "an object", scaling);
  const Json* type = Member(scaling, "rope_type");
  if (type == nullptr) type = Member(scaling, "type");
  factor = 1.0f;
  if (type == nullptr || *type == "default") return absl::OkStatus();
  if (*type != "linear")
    return Wrong(absl::StrCat(where, ".rope_type"), "\"default\" or \"linear\"", *type);
  if (Member(scaling, "factor") == nullptr)
    return Wrong(absl::StrCat(where, ".factor"), "a number", Json(nullptr));
  return ReadFloat(scaling, "factor", factor);
}

absl::Status ReadRope(const Json& text, ModelConfig& config) {
  TANDEM_RETURN_IF_ERROR(ReadFloat(text, "rope_theta", config.rope_theta_global));
  TANDEM_RETURN_IF_ERROR(ReadFloat(text, "rope_local_base_freq", config.rope_theta_local));
  if (const Json* scaling = Member(text, "rope_scaling"); scaling != nullptr) {
    TANDEM_RETURN_IF_ERROR(ReadRopeScaling(*scaling, "rope_scaling", config.rope_factor_global));
  }
  const Json* parameters = Member(text, "rope_parameters");
  if (parameters == nullptr) return absl::OkStatus();
  if (!parameters->is_object()) return Wrong("rope_parameters", "an object", *parameters);
  if (const Json* full = Member(*parameters, "full_attention"); full != nullptr) {
    TANDEM_RETURN_IF_ERROR(
        ReadRopeScaling(*full, "rope_parameters.full_attention", config.rope_factor_global));
    TANDEM_RETURN_IF_ERROR(ReadFloat(*full, "rope_theta", config.rope_theta_global));
  }
  if (const Json* local = Member(*parameters, "sliding_attention"); local != nullptr) {
    float factor = 1.0f;
    TANDEM_RETURN_IF_ERROR(ReadRopeScaling(*local, "rope_parameters.sliding_attention", factor));
    if (factor != 1.0f) return Wrong("rope_parameters.sliding_attention", "no scaling", *local);
    TANDEM_RETURN_IF_ERROR(ReadFloat(*local, "rope_theta", config.rope_theta_local));
  }
  return absl::OkStatus();
}

absl::Status ReadLayerTypes(const Json& text, ModelConfig& config) {
  if (config.num_layers < 1 || config.num_layers > 1024) {
    return Wrong("num_hidden_layers", "1 to 1024", Json(config.num_layers));
  }
  config.layer_is_global.assign(static_cast<std::size_t>(config.num_layers), false);
  if (const Json* types = Member(text, "layer_types"); types != nullptr) {
    if (!types->is_array() || types->size() != config.layer_is_global.size()) {
      return Wrong("layer_types", absl::StrCat("a list of ", config.num_layers, " names"), *types);
    }
    for (std::size_t i = 0; i < types->size(); ++i) {
      const Json& type = (*types)[i];
      if (type != "full_attention" && type != "sliding_attention") {
        return Wrong(absl::StrCat("layer_types[", i, "]"),
                     "\"full_attention\" or \"sliding_attention\"", type);
      }
      config.layer_is_global[i] = type == "full_attention";
    }
    return absl::OkStatus();
  }
  std::int32_t pattern = 6;
  TANDEM_RETURN_IF_ERROR(ReadInt(text, "_sliding_window_pattern", pattern));
  TANDEM_RETURN_IF_ERROR(ReadInt(text, "sliding_window_pattern", pattern));
  if (pattern < 1) return Wrong("sliding_window_pattern", "1 or more", Json(pattern));
  for (std::int32_t i = 0; i < config.num_layers; ++i) {
    config.layer_is_global[static_cast<std::size_t>(i)] = (i + 1) % pattern == 0;
  }
  return absl::OkStatus();
}

// As transformers has it: an encoder's window counts both sides, and half of it each way is seen.
absl::Status ReadDirection(const Json& text, ModelConfig& config) {
  const Json* value = Member(text, "use_bidirectional_attention");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean()) return Wrong("use_bidirectional_attention", "true or false", *value);
  config.bidirectional = value->get<bool>();
  if (config.bidirectional) config.sliding_window = config.sliding_window / 2 + 1;
  return absl::OkStatus();
}

// A number or a list of numbers, added to `ids` where not there yet.
absl::Status ReadEosIds(const Json& object, std::vector<std::int32_t>& ids) {
  const Json* value = Member(object, "eos_token_id");
  if (value == nullptr) return absl::OkStatus();
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    std::int32_t id = 0;
    TANDEM_RETURN_IF_ERROR(ReadInt(Json{{"eos_token_id", item}}, "eos_token_id", id));
    if (item.is_null()) return Wrong("eos_token_id", "a number or a list of numbers", *value);
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return absl::OkStatus();
}

absl::Status CheckModelType(const Json& root, const Json& text) {
  const bool nested = &root != &text;
  const Json* type = Member(root, "model_type");
  const std::vector<const char*> accepted =
      nested ? std::vector<const char*>{"gemma3"} : std::vector<const char*>{"gemma3_text"};
  if (type == nullptr)
    return Wrong("model_type", absl::StrCat("\"", absl::StrJoin(accepted, "\" or \""), "\""),
                 Json(nullptr));
  if (std::none_of(accepted.begin(), accepted.end(),
                   [&](const char* name) { return *type == name; })) {
    return Wrong("model_type",
                 absl::StrCat("\"", absl::StrJoin(accepted, "\" or \""), "\" (a Gemma 3 model)"),
                 *type);
  }
  if (nested) {
    const Json* inner = Member(text, "model_type");
    if (inner != nullptr && *inner != "gemma3_text")
      return Wrong("text_config.model_type", "\"gemma3_text\"", *inner);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> FromJson(const Json& root) {
  if (!root.is_object()) return Wrong("the file", "a JSON object", root);
  const Json* nested = Member(root, "text_config");
  if (nested != nullptr && !nested->is_object()) return Wrong("text_config", "an object", *nested);
  const Json& text = nested != nullptr ? *nested : root;
  TANDEM_RETURN_IF_ERROR(CheckModelType(root, text));
  TANDEM_RETURN_IF_ERROR(RefuseUnsupported(text));

  // Gemma3TextConfig's defaults: the published 4B, 12B and 27B files leave most of these out.
  ModelConfig config;
  config.vocab_size = 262208;
  config.hidden_size = 2304;
  config.ffn_size = 9216;
  config.num_layers = 26;
  config.num_heads = 8;
  config.num_kv_heads = 4;
  config.head_dim = 256;
  config.max_positions = 131072;
  config.sliding_window = 4096;
  config.query_pre_attn_scalar = 256;
  const struct {
    const char* key;
    std::int32_t* value;
  } ints[] = {{"vocab_size", &config.vocab_size},
              {"hidden_size", &config.hidden_size},
              {"intermediate_size", &config.ffn_size},
              {"num_hidden_layers", &config.num_layers},
              {"num_attention_heads", &config.num_heads},
              {"num_key_value_heads", &config.num_kv_heads},
              {"head_dim", &config.head_dim},
              {"max_position_embeddings", &config.max_positions},
              {"sliding_window", &config.sliding_window},
              {"bos_token_id", &config.bos_id}};
  for (const auto& field : ints) TANDEM_RETURN_IF_ERROR(ReadInt(text, field.key, *field.value));
  TANDEM_RETURN_IF_ERROR(ReadFloat(text, "rms_norm_eps", config.rms_norm_eps));
  TANDEM_RETURN_IF_ERROR(ReadFloat(text, "query_pre_attn_scalar", config.query_pre_attn_scalar));
  TANDEM_RETURN_IF_ERROR(ReadRope(text, config));
  TANDEM_RETURN_IF_ERROR(ReadLayerTypes(text, config));
  TANDEM_RETURN_IF_ERROR(ReadDirection(text, config));

  std::vector<std::int32_t> eos_ids;
  TANDEM_RETURN_IF_ERROR(ReadEosIds(root, eos_ids));
  if (nested != nullptr) TANDEM_RETURN_IF_ERROR(ReadEosIds(text, eos_ids));
  if (!eos_ids.empty()) config.eos_ids = eos_ids;
  TANDEM_RETURN_IF_ERROR(ValidateModelConfig(config));
  return config;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseConfigJson(std::string_view json, std::string_view source) {
  const absl::StatusOr<Json> root = ParseJson(json);
  if (!root.ok()) return Annotate(root.status(), source);
  absl::StatusOr<ModelConfig> config = FromJson(*root);
  if (!config.ok()) return Annotate(config.status(), source);
  return config;
}

}  // namespace tandem
