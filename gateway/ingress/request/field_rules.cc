#include "gateway/ingress/request/field_rules.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxShownName = 64;
constexpr std::size_t kMaxIgnored = 16;

// "*": bookkeeping of a service, or hints that do not change what the answer may be.
constexpr std::array kCommon = std::to_array<FieldRule>({
    // OpenAI
    {"user", "*"},
    {"store", "*"},
    {"metadata", "*"},
    {"service_tier", "*"},
    {"prediction", "*"},
    {"verbosity", "*"},
    {"prompt_cache_key", "*"},
    {"prompt_cache_retention", "*"},
    {"prompt_cache_options", "*"},
    {"safety_identifier", "*"},
    {"moderation", "*"},
    {"reasoning_effort", "*"},
    {"functions", "[]"},
    {"function_call", "\"none\"|\"auto\""},
    {"modalities", "[\"text\"]|[]"},
    {"audio", ""},
    {"web_search_options", ""},
    {"suffix", "\"\""},
    {"best_of", "1"},
    // vLLM
    {"priority", "*"},
    {"request_id", "*"},
    {"cache_salt", "*"},
    {"include_reasoning", "*"},
    {"return_token_ids", "false"},
    {"kv_transfer_params", ""},
    {"repetition_penalty", "1"},
    {"length_penalty", "1"},
    {"min_tokens", "0"},
    {"stop_token_ids", "[]"},
    {"bad_words", "[]"},
    {"allowed_token_ids", ""},
    {"use_beam_search", "false"},
    {"include_stop_str_in_output", "false"},
    {"skip_special_tokens", "true"},
    {"spaces_between_special_tokens", "true|false"},
    {"add_special_tokens", "true|false"},
    {"truncate_prompt_tokens", ""},
    {"prompt_logprobs", ""},
    {"documents", "[]"},
    {"chat_template", ""},
    {"chat_template_kwargs", "*"},
    {"mm_processor_kwargs", "{}"},
    {"logits_processors", "[]"},
    {"guided_json", ""},
    {"guided_regex", ""},
    {"guided_choice", ""},
    {"guided_grammar", ""},
    {"guided_decoding_backend", "*"},
    {"guided_whitespace_pattern", ""},
    {"structured_outputs", "{}"},
    {"echo", "false"},
    // llama.cpp
    {"cache_prompt", "*"},
    {"id_slot", "*"},
    {"slot_id", "*"},
    {"n_keep", "*"},
    {"n_discard", "*"},
    {"n_cache_reuse", "*"},
    {"t_max_predict_ms", "0|-1"},
    {"timings_per_token", "*"},
    {"return_progress", "false"},
    {"return_tokens", "false"},
    {"post_sampling_probs", "false"},
    {"response_fields", "[]"},
    {"samplers", "[]"},
    {"min_keep", "*"},
    {"n_probs", "0"},
    {"n_indent", "0"},
    {"typical_p", "1"},
    {"xtc_probability", "0"},
    {"xtc_threshold", "*"},
    {"top_n_sigma", "-1|0"},
    {"dynatemp_range", "0"},
    {"dynatemp_exponent", "*"},
    {"dry_multiplier", "0"},
    {"dry_base", "*"},
    {"dry_allowed_length", "*"},
    {"dry_penalty_last_n", "*"},
    {"dry_sequence_breakers", "*"},
    {"repeat_penalty", "1"},
    {"repeat_last_n", "*"},
    {"mirostat", "0"},
    {"mirostat_tau", "*"},
    {"mirostat_eta", "*"},
    {"grammar", "\"\""},
    {"grammar_lazy", "false"},
    {"json_schema", "{}"},
    {"lora", "[]"},
    {"reasoning_format", "*"},
    {"thinking_forced_open", "false"},
    {"reasoning_budget", "*"},
    // Ollama, LM Studio
    {"keep_alive", "*"},
    {"ttl", "*"},
    {"draft_model", "*"},
    {"num_ctx", "*"},
    {"num_batch", "*"},
    {"num_gpu", "*"},
    {"num_thread", "*"},
    {"think", "false"},
    {"context_overflow_policy", "*"},
});

const FieldRule* FindRule(std::span<const FieldRule> rules, std::string_view name) {
  const auto found = std::find_if(rules.begin(), rules.end(),
                                  [name](const FieldRule& rule) { return rule.name == name; });
  return found == rules.end() ? nullptr : &*found;
}

absl::Status CheckRule(const FieldRule& rule, const Json& value) {
  if (value.is_null() || rule.neutral == "*") return absl::OkStatus();
  std::string allowed;
  for (const absl::string_view neutral : absl::StrSplit(AbslView(rule.neutral), '|')) {
    if (neutral.empty()) continue;
    if (value == Json::parse(neutral.begin(), neutral.end())) return absl::OkStatus();
    allowed.append(Cat(allowed.empty() ? "" : " or ", neutral));
  }
  return InvalidField(rule.name,
                      Cat("'", rule.name, "' is not supported",
                          allowed.empty() ? "" : Cat(": leave it out, or ", allowed)),
                      "unsupported_parameter");
}

// What of a name can stand in a header's quoted text.
std::string ShownName(std::string_view name) {
  std::string shown;
  for (const char c : name.substr(0, kMaxShownName)) {
    const bool plain =
        absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
    shown.push_back(plain ? c : '?');
  }
  return shown;
}

}  // namespace

std::span<const FieldRule> CommonFieldRules() { return kCommon; }

absl::Status CheckOtherFields(const Json& request, std::span<const std::string_view> known,
                              std::span<const FieldRule> own, const ReadOptions& options,
                              std::vector<std::string>& ignored) {
  for (const auto& [name, value] : request.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const FieldRule* rule = FindRule(own, name);
    if (rule == nullptr) rule = FindRule(kCommon, name);
    if (rule != nullptr) {
      TANDEM_RETURN_IF_ERROR(CheckRule(*rule, value));
      continue;
    }
    if (!options.ignore_unknown) {
      return InvalidField(name, Cat("unknown request field '", name, "'"), "unknown_parameter");
    }
    if (ignored.size() < kMaxIgnored) ignored.push_back(ShownName(name));
  }
  return absl::OkStatus();
}

}  // namespace tandem
