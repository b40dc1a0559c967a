#include "gateway/ingress/doors/anthropic/anthropic_format.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/doors/anthropic/anthropic_door.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson UsageJson(const AnswerUsage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens}};
}

OrderedJson TextBlock(std::string text) {
  return {{"type", "text"}, {"text", std::move(text)}, {"citations", nullptr}};
}

OrderedJson ToolUseBlock(const ToolCallDelta& call, OrderedJson input) {
  return {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", std::move(input)}};
}

// Arguments that are no JSON object (the model was cut off) are shown as they are, under "raw".
OrderedJson InputOf(const std::string& arguments) {
  OrderedJson input = OrderedJson::parse(arguments, nullptr, /*allow_exceptions=*/false);
  if (input.is_object()) return input;
  return arguments.empty() ? OrderedJson::object() : OrderedJson{{"raw", arguments}};
}

std::string_view StopReason(const AnswerEvent& event) {
  switch (event.end.value_or(AnswerEnd::kStop)) {
    case AnswerEnd::kStop:
      return event.stop.empty() ? "end_turn" : "stop_sequence";
    case AnswerEnd::kLength:
      return "max_tokens";
    case AnswerEnd::kToolCalls:
      break;
  }
  return "tool_use";
}

OrderedJson StopSequence(const AnswerEvent& event) {
  return event.stop.empty() ? OrderedJson(nullptr) : OrderedJson(event.stop);
}

class MessagesFormat final : public AnswerFormat {
 public:
  explicit MessagesFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    const AnswerEvent& choice = choices.front();
    OrderedJson content = OrderedJson::array();
    if (!choice.text.empty() || choice.tool_calls.empty()) {
      content.push_back(TextBlock(choice.text));
    }
    for (const ToolCallDelta& call : choice.tool_calls) {
      content.push_back(ToolUseBlock(call, InputOf(call.arguments)));
    }
    OrderedJson body = Head(std::move(content), usage);
    body["stop_reason"] = StopReason(choice);
    body["stop_sequence"] = StopSequence(choice);
    return DumpJson(body);
  }

  std::string Begin(const AnswerUsage& usage) override {
    return Event("message_start", {{"message", Head(OrderedJson::array(), usage)}}) +
           Event("ping", {});
  }

  std::string Next(const AnswerEvent& event) override {
    std::string events;
    if (!event.text.empty()) {
      if (!in_text_) events.append(Open(TextBlock("")));
      in_text_ = true;
      events.append(Delta({{"type", "text_delta"}, {"text", event.text}}));
    }
    for (const ToolCallDelta& call : event.tool_calls) {
      if (!call.id.empty()) events.append(Open(ToolUseBlock(call, OrderedJson::object())));
      if (!call.id.empty()) in_text_ = false;
      if (!call.arguments.empty()) {
        events.append(Delta({{"type", "input_json_delta"}, {"partial_json", call.arguments}}));
      }
    }
    if (event.end.has_value()) {
      if (blocks_ == 0) events.append(Open(TextBlock("")));
      events.append(Close());
      reason_ = StopReason(event);
      sequence_ = StopSequence(event);
    }
    return events;
  }

  std::string End(const AnswerUsage& usage) override {
    return Event("message_delta",
                 {{"delta", {{"stop_reason", reason_}, {"stop_sequence", sequence_}}},
                  {"usage", UsageJson(usage)}}) +
           Event("message_stop", {});
  }

  std::string Fail(const ApiError& error) override {
    return ServerSentEvent("error", AnthropicErrorJson(error));
  }

 private:
  static std::string Event(std::string_view type, const OrderedJson& members) {
    OrderedJson json = {{"type", type}};
    if (members.is_object()) json.update(members);
    return ServerSentEvent(type, DumpJson(json));
  }

  OrderedJson Head(OrderedJson content, const AnswerUsage& usage) const {
    return {{"id", info_.id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", info_.model},
            {"content", std::move(content)},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", UsageJson(usage)}};
  }

  // Ends the block that is open, and begins another one.
  std::string Open(OrderedJson block) {
    std::string events = Close();
    open_ = true;
    events.append(
        Event("content_block_start", {{"index", blocks_++}, {"content_block", std::move(block)}}));
    return events;
  }
  std::string Delta(OrderedJson delta) const {
    return Event("content_block_delta", {{"index", blocks_ - 1}, {"delta", std::move(delta)}});
  }
  std::string Close() {
    if (!std::exchange(open_, false)) return "";
    return Event("content_block_stop", {{"index", blocks_ - 1}});
  }

  const AnswerInfo info_;
  int blocks_ = 0;
  bool open_ = false;
  bool in_text_ = false;
  std::string_view reason_ = "end_turn";
  OrderedJson sequence_ = nullptr;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeMessagesFormat(AnswerInfo info) {
  return std::make_unique<MessagesFormat>(std::move(info));
}

}  // namespace tandem
