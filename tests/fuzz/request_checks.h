#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/request/answer_grammar.h"
#include "gateway/ingress/request/conversation.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/request.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "gateway/ingress/request/tool_text.h"
#include "lib/base/status_macros.h"
#include "lib/sample/sampler.h"
#include "lib/text/stop_matcher.h"

namespace tandem {

// What must hold of whatever a door's reader makes of any bytes.

// A 400 that says what is wrong, and can be written in any API's shape.
inline void CheckReaderError(const absl::Status& status, ErrorWriter error_body) {
  const ApiError error = ToApiError(status);
  TANDEM_CHECK(error.http_status == 400 && !error.message.empty());
  TANDEM_CHECK(nlohmann::json::parse(error_body(error), nullptr, false).is_object());
}

// A request within its bounds, whose texts of JSON are JSON.
inline void CheckReadRequest(const InferenceRequest& request) {
  constexpr std::int32_t kAnyVocabulary = INT32_MAX;
  TANDEM_CHECK(ValidateSamplingParams(request.sampling, kAnyVocabulary).ok());
  TANDEM_CHECK(request.n >= 1 && request.n <= kMaxChoices);
  TANDEM_CHECK(request.stops.size() <= StopMatcher::kMaxStops);
  for (const Tool& tool : request.tools) {
    TANDEM_CHECK(!tool.name.empty());
    TANDEM_CHECK(tool.parameters.empty() || nlohmann::json::accept(tool.parameters));
  }
  const auto grammar = AnswerGrammar(request);
  TANDEM_CHECK(grammar.ok() || absl::IsInvalidArgument(grammar.status()));
  const std::string tools = ToolInstructions(request.tools, request.parallel_tool_calls);
  for (const std::string& name : request.ignored_fields) {
    for (const char c : name) TANDEM_CHECK(c > ' ' && c < 127 && c != '"');
  }
  if (request.embed.has_value()) {
    TANDEM_CHECK(CheckEmbeddingPrompts("input", request.prompts).ok());
  }
  for (const Prompt& prompt : request.prompts) {
    const ChatPrompt* chat = std::get_if<ChatPrompt>(&prompt);
    if (chat == nullptr) continue;
    const auto turns = TurnsOf(*chat, tools);
    TANDEM_CHECK(turns.ok() ? !turns->empty() : absl::IsInvalidArgument(turns.status()));
  }
}

}  // namespace tandem
