// Bodies of /v1/responses: any bytes give a request within its bounds, whose answer can be written,
// or an error with OpenAI's shape.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/responses/responses_format.h"
#include "gateway/ingress/doors/responses/responses_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  auto read = tandem::ReadResponsesRequest(body, {.ignore_unknown = true});
  if (!read.ok()) {
    tandem::CheckReaderError(read.status(), tandem::ErrorJson);
    return 0;
  }
  read->request.prompts.emplace_back(tandem::PromptOf(*read, {}));
  tandem::CheckReadRequest(read->request);
  TANDEM_CHECK(nlohmann::json::accept(read->input_items));
  read->request.sampling.num_logprobs = -1;
  const auto format = tandem::MakeResponsesFormat({}, *read, nullptr);
  tandem::AnswerEvent event;
  event.text = "x";
  event.end = tandem::AnswerEnd::kStop;
  TANDEM_CHECK(nlohmann::json::accept(format->Whole({event}, {})));
  return 0;
}
