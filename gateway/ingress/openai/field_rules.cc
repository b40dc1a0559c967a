#include "gateway/ingress/openai/field_rules.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>

#include "gateway/ingress/openai/error.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

// Bookkeeping of OpenAI's service, or hints that do not change what the answer may be.
constexpr std::array<std::string_view, 11> kIgnored = {"user",
                                                       "store",
                                                       "metadata",
                                                       "service_tier",
                                                       "prediction",
                                                       "verbosity",
                                                       "prompt_cache_key",
                                                       "prompt_cache_retention",
                                                       "safety_identifier",
                                                       "parallel_tool_calls",
                                                       "reasoning_effort"};

// Supported only with a value that asks for nothing. `neutral` is JSON; null and absent always
// pass.
struct NeutralRule {
  std::string_view name;
  std::array<std::string_view, 2> neutral;
};
constexpr std::array<NeutralRule, 24> kNeutral = {{
    {"tools", {"[]", ""}},
    {"tool_choice", {"\"none\"", "\"auto\""}},
    {"functions", {"[]", ""}},
    {"function_call", {"\"none\"", "\"auto\""}},
    {"response_format", {"{\"type\":\"text\"}", ""}},
    {"modalities", {"[\"text\"]", "[]"}},
    {"audio", {"", ""}},
    {"web_search_options", {"", ""}},
    {"suffix", {"\"\"", ""}},
    {"best_of", {"1", ""}},
    {"repetition_penalty", {"1", "1.0"}},
    {"length_penalty", {"1", "1.0"}},
    {"min_tokens", {"0", ""}},
    {"stop_token_ids", {"[]", ""}},
    {"bad_words", {"[]", ""}},
    {"use_beam_search", {"false", ""}},
    {"include_stop_str_in_output", {"false", ""}},
    {"skip_special_tokens", {"true", ""}},
    {"spaces_between_special_tokens", {"true", "false"}},
    {"add_generation_prompt", {"true", ""}},
    {"continue_final_message", {"false", ""}},
    {"add_special_tokens", {"true", ""}},
    {"truncate_prompt_tokens", {"", ""}},
    {"prompt_logprobs", {"", ""}},
}};

absl::Status CheckField(const std::string& name, const Json& value) {
  if (value.is_null()) return absl::OkStatus();
  if (std::find(kIgnored.begin(), kIgnored.end(), name) != kIgnored.end()) return absl::OkStatus();
  const auto* rule = std::find_if(kNeutral.begin(), kNeutral.end(),
                                  [&name](const NeutralRule& r) { return r.name == name; });
  if (rule == kNeutral.end()) {
    return InvalidField(name, Cat("unknown request field '", name, "'"), "unknown_parameter");
  }
  std::string allowed;
  for (const std::string_view neutral : rule->neutral) {
    if (neutral.empty()) continue;
    if (value == Json::parse(neutral)) return absl::OkStatus();
    allowed.append(Cat(allowed.empty() ? "" : " or ", neutral));
  }
  return InvalidField(name,
                      Cat("'", name, "' is not supported",
                          allowed.empty() ? "" : Cat(": leave it out, or ", allowed)),
                      "unsupported_parameter");
}

}  // namespace

absl::Status CheckOtherFields(const Json& request, std::span<const std::string_view> known) {
  for (const auto& [name, value] : request.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    absl::Status status = CheckField(name, value);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace tandem
