#pragma once

#include <memory>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerInfo info);
std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerInfo info);

}  // namespace tandem
