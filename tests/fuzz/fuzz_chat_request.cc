// Bodies of /v1/chat/completions and /v1/completions: any bytes give a request within its bounds or
// an error with OpenAI's shape. An odd length goes to the one parser, an even length to the other.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/request.h"
#include "gateway/ingress/openai/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/sample/sampler.h"

namespace {

void CheckError(const absl::Status& status) {
  const tandem::ApiError error = tandem::ToApiError(status);
  TANDEM_CHECK(error.http_status == 400);
  const auto json = nlohmann::json::parse(tandem::ErrorJson(error), nullptr, false);
  TANDEM_CHECK(json.is_object() && json["error"]["message"].is_string());
}

void CheckCommon(const tandem::CommonRequest& common) {
  constexpr std::int32_t kAnyVocabulary = INT32_MAX;
  TANDEM_CHECK(tandem::ValidateSamplingParams(common.sampling, kAnyVocabulary).ok());
  TANDEM_CHECK(common.n >= 1 && common.n <= tandem::kMaxChoices);
  TANDEM_CHECK(common.stops.size() <= tandem::kMaxStopStrings);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  if (size % 2 == 1) {
    const auto request = tandem::ParseChatRequest(body);
    if (!request.ok()) {
      CheckError(request.status());
      return 0;
    }
    CheckCommon(request->common);
    TANDEM_CHECK(!request->messages.empty());
  } else {
    const auto request = tandem::ParseCompletionRequest(body);
    if (!request.ok()) {
      CheckError(request.status());
      return 0;
    }
    CheckCommon(request->common);
    TANDEM_CHECK(!request->prompts.empty());
  }
  return 0;
}
