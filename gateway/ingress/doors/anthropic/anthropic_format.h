#pragma once

#include <memory>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

std::unique_ptr<AnswerFormat> MakeMessagesFormat(AnswerInfo info);

}  // namespace tandem
