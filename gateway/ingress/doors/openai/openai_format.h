#pragma once

#include <memory>

#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerInfo info);
std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerInfo info);
std::unique_ptr<AnswerFormat> MakeEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish);

}  // namespace tandem
