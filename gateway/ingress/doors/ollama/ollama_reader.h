#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// Requests of /api/chat and /api/generate. One without a message or a prompt asks for the model to
// be loaded: then `prompts` is empty. The model's name comes without ":latest". Errors are
// InvalidArgument with the field's name.
absl::StatusOr<InferenceRequest> ReadOllamaChat(std::string_view body,
                                                const ReadOptions& options = {});
absl::StatusOr<InferenceRequest> ReadOllamaGenerate(std::string_view body,
                                                    const ReadOptions& options = {});

// Of /api/embed, and of its older sibling /api/embeddings, which takes one text in "prompt". One
// without a text asks for the model to be loaded, as above.
absl::StatusOr<InferenceRequest> ReadOllamaEmbed(std::string_view body, bool older,
                                                 const ReadOptions& options = {});

// The model that /api/show asks for, in "model" or "name".
absl::StatusOr<std::string> ReadOllamaModel(std::string_view body, const ReadOptions& options = {});

}  // namespace tandem
