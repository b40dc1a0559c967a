#include "gateway/ingress/doors/responses/responses_format.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/doors/token_names.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

// The shortest decimal of a float, as a client sent it: not 0.20000000298.
double Shown(float value) {
  double shown = 0;
  TANDEM_CHECK(absl::SimpleAtod(Cat(value), &shown));
  return shown;
}

OrderedJson TextOrNull(const std::string& text) {
  return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
}

OrderedJson UsageJson(const AnswerUsage& usage) {
  return {
      {"input_tokens", usage.prompt_tokens},
      {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
      {"output_tokens", usage.completion_tokens},
      {"output_tokens_details", {{"reasoning_tokens", 0}}},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

// One item of the output while it comes: a message, or a call.
struct Item {
  std::string id = {};
  bool is_call = false;
  // Of a call.
  std::string call_id = {};
  std::string name = {};
  // A message's text, or a call's arguments.
  std::string text = {};
  OrderedJson logprobs = OrderedJson::array();
};

OrderedJson PartJson(const Item& item) {
  return {{"type", "output_text"},
          {"text", item.text},
          {"annotations", OrderedJson::array()},
          {"logprobs", item.logprobs}};
}

OrderedJson ItemJson(const Item& item, std::string_view status) {
  if (item.is_call) {
    return {{"type", "function_call"}, {"id", item.id},          {"call_id", item.call_id},
            {"name", item.name},       {"arguments", item.text}, {"status", status}};
  }
  OrderedJson content = OrderedJson::array();
  if (status != "in_progress") content.push_back(PartJson(item));
  return {{"type", "message"},
          {"id", item.id},
          {"role", "assistant"},
          {"status", status},
          {"content", std::move(content)}};
}

class ResponsesFormat final : public AnswerFormat {
 public:
  ResponsesFormat(AnswerInfo info, ResponsesRequest request, ResponseDone done)
      : info_(std::move(info)), request_(std::move(request)), done_(std::move(done)) {}

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    Next(choices.front());
    return Finished(usage);
  }

  std::string Begin(const AnswerUsage&) override {
    const std::string response = TextOf(ResponseJson("in_progress", OrderedJson::array()));
    std::string events = ResponseEvent("response.created", response);
    return events.append(ResponseEvent("response.in_progress", response));
  }

  std::string Next(const AnswerEvent& event) override {
    std::string events;
    if (!event.text.empty() || (!event.tokens.empty() && event.tool_calls.empty())) {
      if (!open_ || items_.back().is_call) events.append(OpenMessage());
      Item& item = items_.back();
      item.text.append(event.text);
      OrderedJson logprobs = OrderedJson::array();
      if (info_.num_logprobs >= 0) logprobs = LogprobEntries(info_, event.tokens);
      item.logprobs.insert(item.logprobs.end(), logprobs.begin(), logprobs.end());
      events.append(Event("response.output_text.delta", {{"item_id", item.id},
                                                         {"output_index", Index()},
                                                         {"content_index", 0},
                                                         {"delta", event.text},
                                                         {"logprobs", std::move(logprobs)}}));
    }
    for (const ToolCallDelta& call : event.tool_calls) {
      if (!call.id.empty()) events.append(OpenCall(call));
      Item& item = items_.back();
      item.text.append(call.arguments);
      if (call.arguments.empty()) continue;
      events.append(
          Event("response.function_call_arguments.delta",
                {{"item_id", item.id}, {"output_index", Index()}, {"delta", call.arguments}}));
    }
    if (event.end.has_value()) {
      cut_off_ = event.end == AnswerEnd::kLength;
      if (items_.empty()) events.append(OpenMessage());
      events.append(Close(cut_off_ ? "incomplete" : "completed"));
    }
    return events;
  }

  std::string End(const AnswerUsage& usage) override {
    const std::string response = Finished(usage);
    return ResponseEvent(cut_off_ ? "response.incomplete" : "response.completed", response);
  }

  std::string Fail(const ApiError& error) override {
    OrderedJson response = ResponseJson("failed", OrderedJson::array());
    response["error"] = {{"code", "server_error"}, {"message", error.message}};
    std::string events = Event("error", {{"code", TextOrNull(error.code)},
                                         {"message", error.message},
                                         {"param", TextOrNull(error.param)}});
    return events.append(ResponseEvent("response.failed", TextOf(response)));
  }

 private:
  // Events are numbered as they are made: two in one expression could change places.
  std::string Event(std::string_view type, OrderedJson members) {
    OrderedJson json = {{"type", type}, {"sequence_number", sequence_++}};
    json.update(members);
    return ServerSentEvent(type, DumpJson(json));
  }
  std::string ResponseEvent(std::string_view type, const std::string& response) {
    return ServerSentEvent(type, Cat("{\"type\":\"", type, "\",\"sequence_number\":", sequence_++,
                                     ",\"response\":", response, "}"));
  }
  // The client's own objects, which may be large, go in as they are.
  std::string TextOf(const OrderedJson& response) const {
    std::string text = DumpJson(response);
    text.pop_back();
    return Cat(text, ",\"text\":", request_.text, ",\"tool_choice\":", request_.tool_choice,
               ",\"tools\":", request_.tools, ",\"metadata\":", request_.metadata, "}");
  }
  std::size_t Index() const { return items_.size() - 1; }

  std::string OpenMessage() {
    std::string events = Close("completed");
    items_.push_back({.id = RandomId("msg_")});
    open_ = true;
    const Item& item = items_.back();
    events.append(Event("response.output_item.added",
                        {{"output_index", Index()}, {"item", ItemJson(item, "in_progress")}}));
    return events.append(Event("response.content_part.added", {{"item_id", item.id},
                                                               {"output_index", Index()},
                                                               {"content_index", 0},
                                                               {"part", PartJson(item)}}));
  }

  std::string OpenCall(const ToolCallDelta& call) {
    std::string events = Close("completed");
    items_.push_back(
        {.id = RandomId("fc_"), .is_call = true, .call_id = call.id, .name = call.name});
    open_ = true;
    return events.append(
        Event("response.output_item.added",
              {{"output_index", Index()}, {"item", ItemJson(items_.back(), "in_progress")}}));
  }

  std::string Close(std::string_view status) {
    if (!std::exchange(open_, false)) return "";
    const Item& item = items_.back();
    statuses_.emplace_back(status);
    std::string events;
    if (item.is_call) {
      events = Event("response.function_call_arguments.done", {{"item_id", item.id},
                                                               {"output_index", Index()},
                                                               {"name", item.name},
                                                               {"arguments", item.text}});
    } else {
      events = Event("response.output_text.done", {{"item_id", item.id},
                                                   {"output_index", Index()},
                                                   {"content_index", 0},
                                                   {"text", item.text},
                                                   {"logprobs", item.logprobs}});
      events.append(Event("response.content_part.done", {{"item_id", item.id},
                                                         {"output_index", Index()},
                                                         {"content_index", 0},
                                                         {"part", PartJson(item)}}));
    }
    return events.append(Event("response.output_item.done",
                               {{"output_index", Index()}, {"item", ItemJson(item, status)}}));
  }

  // The response as it ends; keeps it.
  std::string Finished(const AnswerUsage& usage) {
    OrderedJson output = OrderedJson::array();
    Message said{.role = Role::kAssistant};
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const Item& item = items_[i];
      output.push_back(ItemJson(item, statuses_[i]));
      if (item.is_call) {
        said.tool_calls.push_back({.id = item.call_id, .name = item.name, .arguments = item.text});
      } else {
        said.parts.push_back(item.text);
      }
    }
    OrderedJson response = ResponseJson(cut_off_ ? "incomplete" : "completed", std::move(output));
    if (cut_off_) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response["completed_at"] =
        cut_off_ ? OrderedJson(nullptr) : OrderedJson(absl::ToUnixSeconds(absl::Now()));
    response["usage"] = UsageJson(usage);
    std::string text = TextOf(response);
    if (done_) done_(text, std::move(said));
    return text;
  }

  // Without what TextOf adds.
  OrderedJson ResponseJson(std::string_view status, OrderedJson output) const {
    const InferenceRequest& request = request_.request;
    return {{"id", info_.id},
            {"object", "response"},
            {"created_at", info_.created},
            {"completed_at", nullptr},
            {"status", status},
            {"background", false},
            {"error", nullptr},
            {"incomplete_details", nullptr},
            {"instructions", TextOrNull(request_.instructions)},
            {"max_output_tokens", request.max_tokens.has_value() ? OrderedJson(*request.max_tokens)
                                                                 : OrderedJson(nullptr)},
            {"max_tool_calls", nullptr},
            {"model", info_.model},
            {"output", std::move(output)},
            {"parallel_tool_calls", request.parallel_tool_calls},
            {"previous_response_id", TextOrNull(request_.previous_response_id)},
            {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
            {"prompt_cache_key", nullptr},
            {"safety_identifier", nullptr},
            {"service_tier", "default"},
            {"store", request_.store},
            {"temperature", Shown(request.sampling.temperature)},
            {"top_logprobs", std::max(request.sampling.num_logprobs, 0)},
            {"top_p", Shown(request.sampling.top_p)},
            {"frequency_penalty", Shown(request.sampling.frequency_penalty)},
            {"presence_penalty", Shown(request.sampling.presence_penalty)},
            {"truncation", request_.truncation},
            {"usage", nullptr},
            {"user", nullptr}};
  }

  const AnswerInfo info_;
  const ResponsesRequest request_;
  const ResponseDone done_;
  std::vector<Item> items_;
  // Of the items that have come to their end.
  std::vector<std::string> statuses_;
  bool open_ = false;
  bool cut_off_ = false;
  std::int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeResponsesFormat(AnswerInfo info, ResponsesRequest request,
                                                  ResponseDone done) {
  return std::make_unique<ResponsesFormat>(std::move(info), std::move(request), std::move(done));
}

}  // namespace tandem
