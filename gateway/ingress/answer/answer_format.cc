#include "gateway/ingress/answer/answer_format.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string DumpJson(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// The token's bytes, empty for ids beyond the tokenizer's.
std::string TokenBytes(const AnswerInfo& info, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= info.tokenizer->size()) return "";
  return info.tokenizer->BytesOf(token);
}

// How a token is called: its text; "token_id:N" where that was asked for; control tokens by their
// name ("<bos>"); bytes that are no whole character as "bytes:\xe2\x96" (as OpenAI spells them).
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

// JSON has no infinities: a probability of zero is written as -9999.
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

// {"id", "object", "created", "model"}
OrderedJson AnswerHead(const AnswerInfo& info, std::string_view object) {
  return {{"id", info.id}, {"object", object}, {"created", info.created}, {"model", info.model}};
}

class ChatFormat final : public AnswerFormat {
 public:
  explicit ChatFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerPart>& parts, const AnswerUsage& usage) override {
    OrderedJson choices = OrderedJson::array();
    for (const AnswerPart& part : parts) {
      choices.push_back(
          {{"index", part.index},
           {"message", {{"role", "assistant"}, {"content", part.text}, {"refusal", nullptr}}},
           {"logprobs", Logprobs(part)},
           {"finish_reason", FinishJson(part.finish)}});
    }
    OrderedJson body = AnswerHead(info_, "chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Opening(int index) override {
    return OneChoice({{"index", index},
                      {"delta", {{"role", "assistant"}, {"content", ""}}},
                      {"logprobs", nullptr},
                      {"finish_reason", nullptr}});
  }

  std::string Chunk(const AnswerPart& part) override {
    OrderedJson delta = OrderedJson::object();
    if (!part.text.empty() || !part.finish.has_value()) delta["content"] = part.text;
    return OneChoice({{"index", part.index},
                      {"delta", std::move(delta)},
                      {"logprobs", part.tokens.empty() ? OrderedJson(nullptr) : Logprobs(part)},
                      {"finish_reason", FinishJson(part.finish)}});
  }

  std::string UsageChunk(const AnswerUsage& usage) override {
    OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
    body["choices"] = OrderedJson::array();
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

 private:
  std::string OneChoice(OrderedJson choice) const {
    OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
    body["choices"] = OrderedJson::array({std::move(choice)});
    if (info_.include_usage) body["usage"] = nullptr;
    return DumpJson(body);
  }

  OrderedJson Entry(std::int32_t token, float logprob) const {
    OrderedJson bytes = OrderedJson::array();
    for (const char c : TokenBytes(info_, token)) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", TokenName(info_, token)},
            {"logprob", JsonLogprob(logprob)},
            {"bytes", std::move(bytes)}};
  }

  OrderedJson Logprobs(const AnswerPart& part) const {
    if (info_.num_logprobs < 0) return nullptr;
    OrderedJson content = OrderedJson::array();
    for (const ScoredToken& token : part.tokens) {
      OrderedJson entry = Entry(token.token, token.logprob.value_or(0.0f));
      OrderedJson top = OrderedJson::array();
      for (const TokenLogprob& other : token.top) top.push_back(Entry(other.token, other.logprob));
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }

  const AnswerInfo info_;
};

class CompletionFormat final : public AnswerFormat {
 public:
  explicit CompletionFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerPart>& parts, const AnswerUsage& usage) override {
    OrderedJson choices = OrderedJson::array();
    for (const AnswerPart& part : parts) choices.push_back(Choice(part));
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = std::move(choices);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Opening(int) override { return ""; }

  std::string Chunk(const AnswerPart& part) override {
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = OrderedJson::array({Choice(part)});
    if (info_.include_usage) body["usage"] = nullptr;
    return DumpJson(body);
  }

  std::string UsageChunk(const AnswerUsage& usage) override {
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = OrderedJson::array();
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

 private:
  OrderedJson Choice(const AnswerPart& part) const {
    return {{"index", part.index},
            {"text", part.text},
            {"logprobs", Logprobs(part)},
            {"finish_reason", FinishJson(part.finish)}};
  }

  // The best tokens and the chosen one: up to num_logprobs + 1 members. Of two tokens with one name
  // the more likely stands there.
  OrderedJson Top(const ScoredToken& token) const {
    if (!token.logprob.has_value()) return nullptr;
    OrderedJson top = OrderedJson::object();
    const auto add = [&](std::int32_t id, float logprob) {
      std::string name = TokenName(info_, id);
      if (!top.contains(name)) top[std::move(name)] = JsonLogprob(logprob);
    };
    for (const TokenLogprob& other : token.top) add(other.token, other.logprob);
    add(token.token, *token.logprob);
    return top;
  }

  OrderedJson Logprobs(const AnswerPart& part) const {
    if (info_.num_logprobs < 0) return nullptr;
    OrderedJson tokens = OrderedJson::array();
    OrderedJson logprobs = OrderedJson::array();
    OrderedJson tops = OrderedJson::array();
    OrderedJson offsets = OrderedJson::array();
    for (const ScoredToken& token : part.tokens) {
      tokens.push_back(TokenName(info_, token.token));
      logprobs.push_back(token.logprob.has_value() ? OrderedJson(JsonLogprob(*token.logprob))
                                                   : OrderedJson(nullptr));
      tops.push_back(Top(token));
      offsets.push_back(token.text_offset);
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(logprobs)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

  const AnswerInfo info_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerInfo info) {
  return std::make_unique<ChatFormat>(std::move(info));
}

std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerInfo info) {
  return std::make_unique<CompletionFormat>(std::move(info));
}

}  // namespace tandem
