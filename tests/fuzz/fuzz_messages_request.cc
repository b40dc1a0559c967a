// Bodies of Anthropic's /v1/messages and count_tokens: any bytes give a request within its bounds
// or an error with that API's shape.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/anthropic/anthropic_door.h"
#include "gateway/ingress/doors/anthropic/anthropic_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request =
      tandem::ReadMessagesRequest(body, {.ignore_unknown = true}, /*count_only=*/size % 2 == 0);
  if (!request.ok()) {
    tandem::CheckReaderError(request.status(), tandem::AnthropicErrorJson);
    return 0;
  }
  tandem::CheckReadRequest(*request);
  TANDEM_CHECK(request->prompts.size() == 1);
  return 0;
}
