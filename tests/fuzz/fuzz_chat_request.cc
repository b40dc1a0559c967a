// Bodies of /v1/chat/completions and /v1/completions: any bytes give a request within its bounds or
// an error with OpenAI's shape. An odd length goes to the one reader, an even length to the other.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/openai/openai_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request = size % 2 == 1 ? tandem::ReadChatRequest(body, {.ignore_unknown = true})
                                     : tandem::ReadCompletionRequest(body);
  if (!request.ok()) {
    tandem::CheckReaderError(request.status(), tandem::ErrorJson);
    return 0;
  }
  tandem::CheckReadRequest(*request);
  TANDEM_CHECK(!request->prompts.empty());
  return 0;
}
