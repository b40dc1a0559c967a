#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem {

// An error in OpenAI's terms, from which every API's are made:
//   {"error": {"message": ..., "type": ..., "param": ... or null, "code": ... or null}}
struct ApiError {
  int http_status = 500;
  std::string message;
  std::string type;
  std::string param;  // empty: null
  std::string code;   // empty: null
};

// InvalidArgument about the request's field `param` ("messages[2].content"; "" for none), with an
// optional machine-readable code. Param and code travel as payloads of the status.
absl::Status InvalidField(std::string_view param, std::string_view message,
                          std::string_view code = "");
// NotFound with code model_not_found.
absl::Status ModelNotFound(std::string_view model);

// `status` with how long its sender should wait before it tries again.
absl::Status RetryAfter(absl::Status status, absl::Duration wait);
// In whole seconds, for the header; 1 where the status says nothing.
int RetryAfterSeconds(const absl::Status& status);

// `status` with the reason under which refusals are counted (answer/metrics.h), where its code
// alone would tell another one.
absl::Status WithRejectionReason(absl::Status status, std::string_view reason);
// Empty where the code tells it.
std::string RejectionReason(const absl::Status& status);

// What a failed request is answered with. `status` must not be OK.
ApiError ToApiError(const absl::Status& status);
// How an API writes an error as a reply's body.
using ErrorWriter = std::string (*)(const ApiError& error);
// As OpenAI's does it.
std::string ErrorJson(const ApiError& error);

}  // namespace tandem
