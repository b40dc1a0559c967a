#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/request/json_fields.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// Members of a request that several APIs spell the same way. Errors are InvalidArgument with the
// field's name.

inline constexpr std::size_t kMaxTools = 128;

// temperature, top_p, top_k, min_p, penalties, logit_bias and seed.
absl::Status ReadSampling(const JsonFields& fields, InferenceRequest& request);
// "stop": a string or an array of them.
absl::Status ReadStops(const JsonFields& fields, std::string_view name,
                       std::vector<std::string>& stops);
// A limit of `least` or more; -1 is the same as none.
absl::Status ReadMaxTokens(const JsonFields& fields, std::string_view name, std::int64_t least,
                           std::optional<std::int32_t>& max_tokens);
// "logprobs": a boolean, and "top_logprobs".
absl::Status ReadChatLogprobs(const JsonFields& fields, SamplingParams& sampling);

// "messages" as OpenAI's chat has them, with "continue_final_message" and "add_generation_prompt".
absl::StatusOr<ChatPrompt> ReadChatMessages(const JsonFields& fields);

// "tools": [{"type": "function", "function": {...}}, ...]
absl::Status ReadTools(const JsonFields& fields, std::vector<Tool>& tools);
// {"name", "description", `parameters_name`, "strict"}; `path` names it in errors, `source` is its
// text.
absl::StatusOr<Tool> ReadFunction(const nlohmann::json& function, const std::string& path,
                                  std::string_view source, std::string_view parameters_name);
// "none", "auto" or "required".
absl::Status ReadToolMode(const JsonFields& fields, std::string_view mode, ToolChoice& choice);
// A tool's name: what OpenAI's API takes, 1 to 64 letters, digits, '_' or '-'.
absl::Status CheckToolName(std::string_view path, std::string_view name);
// Whether the choice of a tool fits the tools, and their names differ.
absl::Status CheckTools(const InferenceRequest& request);

// {"name", "schema", "strict"}
absl::Status ReadSchemaFormat(const JsonFields& fields, ResponseFormat& format);

}  // namespace tandem
