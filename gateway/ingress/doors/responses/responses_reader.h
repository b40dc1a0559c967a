#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// A request of /v1/responses. Its `request` has no prompt yet: that is `instructions`, what came
// before (`previous_response_id`) and `input`, joined by PromptOf.
struct ResponsesRequest {
  InferenceRequest request;
  std::string instructions;
  std::string previous_response_id;
  std::vector<Message> input;
  bool store = true;

  // What the answer repeats, as JSON texts without line breaks.
  std::string metadata = "{}";
  std::string tools = "[]";
  std::string tool_choice = "\"auto\"";
  std::string text = R"({"format":{"type":"text"}})";
  // The items of `input`, each with an id: {"object": "list", "data": [...], ...}
  std::string input_items = {};
  std::string truncation = "disabled";
};

// Errors are InvalidArgument with the field's name.
absl::StatusOr<ResponsesRequest> ReadResponsesRequest(std::string_view body,
                                                      const ReadOptions& options = {});

// The whole conversation; `before`: that of the previous response.
ChatPrompt PromptOf(const ResponsesRequest& request, const std::vector<Message>& before);

}  // namespace tandem
