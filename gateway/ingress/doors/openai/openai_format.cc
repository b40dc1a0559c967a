#include "gateway/ingress/doors/openai/openai_format.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/doors/token_names.h"
#include "gateway/ingress/request/json_text.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson FinishJson(const std::optional<AnswerEnd>& end) {
  if (!end.has_value()) return nullptr;
  switch (*end) {
    case AnswerEnd::kStop:
      return "stop";
    case AnswerEnd::kLength:
      return "length";
    case AnswerEnd::kToolCalls:
      break;
  }
  return "tool_calls";
}

OrderedJson UsageJson(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

// {"id", "object", "created", "model"}
OrderedJson AnswerHead(const AnswerInfo& info, std::string_view object) {
  return {{"id", info.id}, {"object", object}, {"created", info.created}, {"model", info.model}};
}

OrderedJson ToolCallJson(const ToolCallDelta& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

// Its first piece has the call's id and name.
OrderedJson ToolCallDeltaJson(const ToolCallDelta& call) {
  OrderedJson json = {{"index", call.index}};
  if (!call.id.empty()) {
    json.update(ToolCallJson(call));
  } else {
    json["function"] = {{"arguments", call.arguments}};
  }
  return json;
}

class ChatFormat final : public AnswerFormat {
 public:
  explicit ChatFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    OrderedJson list = OrderedJson::array();
    for (const AnswerEvent& choice : choices) {
      list.push_back({{"index", choice.index},
                      {"message", MessageJson(choice)},
                      {"logprobs", Logprobs(choice)},
                      {"finish_reason", FinishJson(choice.end)}});
    }
    OrderedJson body = AnswerHead(info_, "chat.completion");
    body["choices"] = std::move(list);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Begin(const AnswerUsage&) override { return ""; }

  std::string Next(const AnswerEvent& event) override {
    std::string chunks;
    if (event.first) {
      chunks = Chunk({{"index", event.index},
                      {"delta", {{"role", "assistant"}, {"content", ""}}},
                      {"logprobs", nullptr},
                      {"finish_reason", nullptr}});
    }
    OrderedJson delta = OrderedJson::object();
    // Tokens whose text is empty still have log-probabilities to show.
    const bool only_tokens =
        !event.tokens.empty() && event.tool_calls.empty() && !event.end.has_value();
    if (!event.text.empty() || only_tokens) delta["content"] = event.text;
    for (const ToolCallDelta& call : event.tool_calls) {
      delta["tool_calls"].push_back(ToolCallDeltaJson(call));
    }
    if (delta.empty() && !event.end.has_value()) return chunks;
    return chunks +
           Chunk({{"index", event.index},
                  {"delta", std::move(delta)},
                  {"logprobs", event.tokens.empty() ? OrderedJson(nullptr) : Logprobs(event)},
                  {"finish_reason", FinishJson(event.end)}});
  }

  std::string End(const AnswerUsage& usage) override {
    std::string events;
    if (info_.include_usage) {
      OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
      body["choices"] = OrderedJson::array();
      body["usage"] = UsageJson(usage);
      events = ServerSentEvent("", DumpJson(body));
    }
    return events + ServerSentEvent("", "[DONE]");
  }

  std::string Fail(const ApiError& error) override { return ServerSentEvent("", ErrorJson(error)); }

 private:
  static OrderedJson MessageJson(const AnswerEvent& choice) {
    OrderedJson message = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    if (choice.tool_calls.empty()) return message;
    if (choice.text.empty()) message["content"] = nullptr;
    for (const ToolCallDelta& call : choice.tool_calls) {
      message["tool_calls"].push_back(ToolCallJson(call));
    }
    return message;
  }

  std::string Chunk(OrderedJson choice) const {
    OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
    body["choices"] = OrderedJson::array({std::move(choice)});
    if (info_.include_usage) body["usage"] = nullptr;
    return ServerSentEvent("", DumpJson(body));
  }

  OrderedJson Logprobs(const AnswerEvent& choice) const {
    if (info_.num_logprobs < 0) return nullptr;
    return {{"content", LogprobEntries(info_, choice.tokens)}, {"refusal", nullptr}};
  }

  const AnswerInfo info_;
};

class CompletionFormat final : public AnswerFormat {
 public:
  explicit CompletionFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    OrderedJson list = OrderedJson::array();
    for (const AnswerEvent& choice : choices) list.push_back(Choice(choice));
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = std::move(list);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Begin(const AnswerUsage&) override { return ""; }

  std::string Next(const AnswerEvent& event) override {
    if (event.text.empty() && event.tokens.empty() && !event.end.has_value()) return "";
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = OrderedJson::array({Choice(event)});
    if (info_.include_usage) body["usage"] = nullptr;
    return ServerSentEvent("", DumpJson(body));
  }

  std::string End(const AnswerUsage& usage) override {
    std::string events;
    if (info_.include_usage) {
      OrderedJson body = AnswerHead(info_, "text_completion");
      body["choices"] = OrderedJson::array();
      body["usage"] = UsageJson(usage);
      events = ServerSentEvent("", DumpJson(body));
    }
    return events + ServerSentEvent("", "[DONE]");
  }

  std::string Fail(const ApiError& error) override { return ServerSentEvent("", ErrorJson(error)); }

 private:
  OrderedJson Choice(const AnswerEvent& part) const {
    return {{"index", part.index},
            {"text", part.text},
            {"logprobs", Logprobs(part)},
            {"finish_reason", FinishJson(part.end)}};
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

  OrderedJson Logprobs(const AnswerEvent& part) const {
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
