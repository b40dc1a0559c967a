#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/json_fields.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// The requests of OpenAI's API, read and checked as far as that goes without the model. What a
// reader refuses is InvalidArgument carrying the field's name (request/error.h).
absl::StatusOr<InferenceRequest> ReadChatRequest(std::string_view body,
                                                 const ReadOptions& options = {});
absl::StatusOr<InferenceRequest> ReadCompletionRequest(std::string_view body,
                                                       const ReadOptions& options = {});

// vLLM's guided_json, guided_regex, guided_choice, guided_grammar and structured_outputs, and
// llama.cpp's grammar and json_schema: at most one, and none beside another format.
absl::Status ReadGuided(const JsonFields& fields, ResponseFormat& format);

// Of /v1/embeddings.
absl::StatusOr<InferenceRequest> ReadEmbeddingRequest(std::string_view body,
                                                      const ReadOptions& options = {});

// The member `name`: a string, an array of strings, an array of token ids, or an array of arrays of
// token ids.
absl::Status ReadPrompts(const JsonFields& fields, std::string_view name,
                         std::vector<Prompt>& prompts);

// What chats and completions read, but the prompt, log-probabilities and max_tokens.
absl::StatusOr<InferenceRequest> ReadOpenAiCommon(const JsonFields& fields);
// The names of all that, and of `own`.
std::vector<std::string_view> WithOpenAiCommonFields(std::span<const std::string_view> own);

}  // namespace tandem
