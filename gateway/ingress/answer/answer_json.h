#pragma once

// Shared by the two answer formats.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

using OrderedJson = nlohmann::ordered_json;

std::string DumpJson(const OrderedJson& json);

// How a token is called: its text; "token_id:N" where that was asked for; control tokens by their
// name ("<bos>"); bytes that are no whole character as "bytes:\xe2\x96" (as OpenAI spells them).
std::string TokenName(const AnswerInfo& info, std::int32_t token);
// The token's bytes, empty for ids beyond the tokenizer's.
std::string TokenBytes(const AnswerInfo& info, std::int32_t token);

// JSON has no infinities: a probability of zero is written as -9999.
double JsonLogprob(float logprob);

OrderedJson FinishJson(const std::optional<FinishReason>& finish);
OrderedJson UsageJson(const AnswerUsage& usage);
// {"id", "object", "created", "model"}
OrderedJson AnswerHead(const AnswerInfo& info, std::string_view object);

}  // namespace tandem
