#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// Whether calls of tools are looked for in the answer.
bool MayCallTools(const InferenceRequest& request);

// The grammar (lib/constrain/ebnf.h) of what may be answered: "" where everything may. It is
// compiled once, so what is wrong with it is found here. InvalidArgument (error.h) with the field's
// name.
//
// With tools the answer is either calls, or (tool_choice auto) what it would be without tools, but
// nothing that begins as a call does and goes on as none. A call's arguments are of the tool's
// schema; where that cannot be enforced and `strict` was not asked for, of any JSON object.
absl::StatusOr<std::string> AnswerGrammar(const InferenceRequest& request);

}  // namespace tandem
