// Bodies of /tokenize and /detokenize: any bytes give a request or an error with OpenAI's shape.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/tokenizer/tokenizer_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto tokenize = tandem::ReadTokenizeRequest(body);
  if (!tokenize.ok()) tandem::CheckReaderError(tokenize.status(), tandem::ErrorJson);
  const auto detokenize = tandem::ReadDetokenizeRequest(body);
  if (!detokenize.ok()) {
    tandem::CheckReaderError(detokenize.status(), tandem::ErrorJson);
    return 0;
  }
  for (const std::int32_t token : detokenize->tokens) TANDEM_CHECK(token >= 0);
  return 0;
}
