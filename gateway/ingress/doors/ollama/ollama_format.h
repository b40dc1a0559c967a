#pragma once

#include <memory>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

// Lines of JSON. `chat`: of /api/chat, else of /api/generate.
std::unique_ptr<AnswerFormat> MakeOllamaFormat(AnswerInfo info, bool chat);

// Of /api/embed, where each is of length 1; and of /api/embeddings, where the only one is the mean
// as it is.
std::unique_ptr<AnswerFormat> MakeOllamaEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish,
                                                        bool older);

// "2026-01-31T12:00:00.123456789Z", now.
std::string OllamaTime();
// {"error": message}
std::string OllamaErrorJson(const ApiError& error);

}  // namespace tandem
