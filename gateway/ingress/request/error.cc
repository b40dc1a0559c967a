#include "gateway/ingress/request/error.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::string_view kParamPayload = "tandem.api/param";
constexpr std::string_view kCodePayload = "tandem.api/code";
constexpr std::string_view kRetryPayload = "tandem.api/retry_after_seconds";
constexpr std::string_view kReasonPayload = "tandem.api/counted_reason";

std::string Payload(const absl::Status& status, std::string_view url) {
  const auto value = status.GetPayload(AbslView(url));
  return value.has_value() ? std::string(*value) : std::string();
}

void SetPayload(absl::Status& status, std::string_view url, std::string_view value) {
  if (!value.empty()) status.SetPayload(AbslView(url), absl::Cord(AbslView(value)));
}

}  // namespace

absl::Status InvalidField(std::string_view param, std::string_view message, std::string_view code) {
  absl::Status status = absl::InvalidArgumentError(AbslView(message));
  SetPayload(status, kParamPayload, param);
  SetPayload(status, kCodePayload, code);
  return status;
}

absl::Status ModelNotFound(std::string_view model) {
  absl::Status status = absl::NotFoundError(Cat("the model '", model, "' is not served"));
  SetPayload(status, kParamPayload, "model");
  SetPayload(status, kCodePayload, "model_not_found");
  return status;
}

absl::Status RetryAfter(absl::Status status, absl::Duration wait) {
  const std::int64_t seconds = absl::ToInt64Seconds(absl::Ceil(wait, absl::Seconds(1)));
  SetPayload(status, kRetryPayload, Cat(std::clamp<std::int64_t>(seconds, 1, 3600)));
  return status;
}

int RetryAfterSeconds(const absl::Status& status) {
  int seconds = 1;
  return absl::SimpleAtoi(Payload(status, kRetryPayload), &seconds) ? seconds : 1;
}

absl::Status WithRejectionReason(absl::Status status, std::string_view reason) {
  SetPayload(status, kReasonPayload, reason);
  return status;
}

std::string RejectionReason(const absl::Status& status) { return Payload(status, kReasonPayload); }

ApiError ToApiError(const absl::Status& status) {
  TANDEM_CHECK(!status.ok());
  ApiError error{.http_status = 500,
                 .message = std::string(status.message()),
                 .type = "server_error",
                 .param = Payload(status, kParamPayload),
                 .code = Payload(status, kCodePayload)};
  const auto set = [&error](int http_status, std::string_view type, std::string_view code) {
    error.http_status = http_status;
    error.type = std::string(type);
    if (error.code.empty()) error.code = std::string(code);
  };
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      set(400, "invalid_request_error", "");
      break;
    case absl::StatusCode::kUnauthenticated:
      set(401, "invalid_request_error", "invalid_api_key");
      break;
    case absl::StatusCode::kPermissionDenied:
      set(403, "invalid_request_error", "permission_denied");
      break;
    case absl::StatusCode::kNotFound:
      set(404, "invalid_request_error", "not_found");
      break;
    case absl::StatusCode::kResourceExhausted:
      set(429, "rate_limit_error", "rate_limit_exceeded");
      break;
    case absl::StatusCode::kUnavailable:
      set(503, "server_error", "unavailable");
      break;
    case absl::StatusCode::kDeadlineExceeded:
      set(504, "server_error", "timeout");
      break;
    default:
      set(500, "server_error", "internal_error");
  }
  return error;
}

std::string ErrorJson(const ApiError& error) {
  using OrderedJson = nlohmann::ordered_json;
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
  };
  const OrderedJson body = {{"error",
                             {{"message", error.message},
                              {"type", error.type},
                              {"param", text_or_null(error.param)},
                              {"code", text_or_null(error.code)}}}};
  return body.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace tandem
