#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/doors/responses/responses_reader.h"

namespace tandem {

// A finished response: its JSON text, and what the assistant said.
using ResponseDone = std::function<void(const std::string& json, Message said)>;

// `done` is called once, when the response has come to its end; not where it failed.
std::unique_ptr<AnswerFormat> MakeResponsesFormat(AnswerInfo info, ResponsesRequest request,
                                                  ResponseDone done);

}  // namespace tandem
