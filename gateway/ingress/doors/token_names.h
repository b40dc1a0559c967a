#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

// How a token is called: its text; "token_id:N" where that was asked for; control tokens by their
// name ("<bos>"); bytes that are no whole character as "bytes:\xe2\x96" (as OpenAI spells them).
std::string TokenName(const AnswerInfo& info, std::int32_t token);

// JSON has no infinities: a probability of zero is written as -9999.
double JsonLogprob(float logprob);

// Log-probabilities as OpenAI's chats have them, and others after them: one entry a token.
nlohmann::ordered_json LogprobEntries(const AnswerInfo& info,
                                      const std::vector<ScoredToken>& tokens);

}  // namespace tandem
