#include "gateway/ingress/doors/anthropic/anthropic_door.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/doors/anthropic/anthropic_format.h"
#include "gateway/ingress/doors/anthropic/anthropic_reader.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kMessagesPath = "/v1/messages";
constexpr std::string_view kCountPath = "/v1/messages/count_tokens";

std::string_view ErrorType(int http_status) {
  switch (http_status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return http_status < 500 ? "invalid_request_error" : "api_error";
  }
}

class AnthropicDoor final : public Door {
 public:
  explicit AnthropicDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    return {{.method = "POST",
             .path = kMessagesPath,
             .handle = [this](DoorCall call) { return Answer(std::move(call)); }},
            {.method = "POST", .path = kCountPath, .handle = [this](DoorCall call) {
               return Count(std::move(call));
             }}};
  }
  std::string_view prefix() const override { return kMessagesPath; }
  ErrorWriter errors() const override { return AnthropicErrorJson; }

 private:
  HttpResult Answer(DoorCall call) {
    const AnswerPlan plan{.endpoint = kMessagesPath,
                          .errors = AnthropicErrorJson,
                          .id_prefix = "msg_",
                          .format = [](AnswerInfo info, const InferenceRequest&) {
                            return MakeMessagesFormat(std::move(info));
                          }};
    auto request = ReadMessagesRequest(call.request.body, services_.read);
    return StartAnswer(services_, call, plan, std::move(request));
  }

  absl::StatusOr<std::size_t> CountTokens(const std::string& body) const {
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> serving, services_.serving.Get());
    TANDEM_ASSIGN_OR_RETURN(InferenceRequest request,
                            ReadMessagesRequest(body, services_.read, /*count_only=*/true));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::vector<std::int32_t>> ids,
                            PlanPrompts(*serving, request));
    return ids.front().size();
  }

  HttpResult Count(const DoorCall& call) {
    const absl::StatusOr<std::size_t> count = CountTokens(call.request.body);
    if (!count.ok()) return ErrorResult(services_, kCountPath, AnthropicErrorJson, count.status());
    services_.metrics.CountRequest(kCountPath, 200);
    return JsonReply(DumpJson({{"input_tokens", *count}}));
  }

  const DoorServices services_;
};

}  // namespace

std::string AnthropicErrorJson(const ApiError& error) {
  return DumpJson({{"type", "error"},
                   {"error", {{"type", ErrorType(error.http_status)}, {"message", error.message}}},
                   {"request_id", nullptr}});
}

std::unique_ptr<Door> MakeAnthropicDoor(const DoorServices& services) {
  return std::make_unique<AnthropicDoor>(services);
}

}  // namespace tandem
