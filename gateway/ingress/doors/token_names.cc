#include "gateway/ingress/doors/token_names.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

// The token's bytes, empty for ids beyond the tokenizer's.
std::string TokenBytes(const AnswerInfo& info, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= info.tokenizer->size()) return "";
  return info.tokenizer->BytesOf(token);
}

OrderedJson LogprobEntry(const AnswerInfo& info, std::int32_t token, float logprob) {
  OrderedJson bytes = OrderedJson::array();
  for (const char c : TokenBytes(info, token)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", TokenName(info, token)},
          {"logprob", JsonLogprob(logprob)},
          {"bytes", std::move(bytes)}};
}

}  // namespace

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

OrderedJson LogprobEntries(const AnswerInfo& info, const std::vector<ScoredToken>& tokens) {
  OrderedJson content = OrderedJson::array();
  for (const ScoredToken& token : tokens) {
    OrderedJson entry = LogprobEntry(info, token.token, token.logprob.value_or(0.0f));
    OrderedJson top = OrderedJson::array();
    for (const TokenLogprob& other : token.top) {
      top.push_back(LogprobEntry(info, other.token, other.logprob));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return content;
}

}  // namespace tandem
