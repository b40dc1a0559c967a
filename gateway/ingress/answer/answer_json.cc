#include "gateway/ingress/answer/answer_json.h"

#include <algorithm>

#include "lib/text/cat.h"
#include "lib/text/utf8.h"

namespace tandem {

std::string DumpJson(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string TokenBytes(const AnswerInfo& info, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= info.tokenizer->size()) return "";
  return info.tokenizer->BytesOf(token);
}

std::string TokenName(const AnswerInfo& info, std::int32_t token) {
  const bool known = token >= 0 && static_cast<std::size_t>(token) < info.tokenizer->size();
  if (info.tokens_as_ids || !known) return Cat("token_id:", token);
  const std::string bytes = info.tokenizer->BytesOf(token);
  if (bytes.empty()) return std::string(info.tokenizer->PieceOf(token));
  if (IsValidUtf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char c : bytes) {
    name.append(Cat("\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2)));
  }
  return name;
}

double JsonLogprob(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

OrderedJson FinishJson(const std::optional<FinishReason>& finish) {
  if (!finish.has_value()) return nullptr;
  return *finish == FinishReason::kStop ? "stop" : "length";
}

OrderedJson UsageJson(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

OrderedJson AnswerHead(const AnswerInfo& info, std::string_view object) {
  return {{"id", info.id}, {"object", object}, {"created", info.created}, {"model", info.model}};
}

}  // namespace tandem
