// Bodies of /v1/chat/completions, /v1/completions and /v1/embeddings: any bytes give a request
// within its bounds or an error with OpenAI's shape. The length tells which reader they go to.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/openai/openai_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request = size % 3 == 0   ? tandem::ReadEmbeddingRequest(body)
                       : size % 3 == 1 ? tandem::ReadChatRequest(body, {.ignore_unknown = true})
                                       : tandem::ReadCompletionRequest(body);
  if (!request.ok()) {
    tandem::CheckReaderError(request.status(), tandem::ErrorJson);
    return 0;
  }
  tandem::CheckReadRequest(*request);
  TANDEM_CHECK(!request->prompts.empty());
  return 0;
}
