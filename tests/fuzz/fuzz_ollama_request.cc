// Bodies of Ollama's /api/chat, /api/generate, /api/embed, /api/embeddings and /api/show: any bytes
// give a request within its bounds or an error with that API's shape. The length tells which reader
// they go to.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/ingress/doors/ollama/ollama_format.h"
#include "gateway/ingress/doors/ollama/ollama_reader.h"
#include "tests/fuzz/request_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  if (const auto model = tandem::ReadOllamaModel(body); !model.ok()) {
    tandem::CheckReaderError(model.status(), tandem::OllamaErrorJson);
  }
  const auto request = size % 4 == 0   ? tandem::ReadOllamaEmbed(body, /*older=*/false)
                       : size % 4 == 1 ? tandem::ReadOllamaEmbed(body, /*older=*/true)
                       : size % 4 == 2 ? tandem::ReadOllamaChat(body, {.ignore_unknown = true})
                                       : tandem::ReadOllamaGenerate(body);
  if (!request.ok()) {
    tandem::CheckReaderError(request.status(), tandem::OllamaErrorJson);
    return 0;
  }
  tandem::CheckReadRequest(*request);
  TANDEM_CHECK(request->prompts.size() <= (size % 4 == 0 ? tandem::kMaxEmbeddings : 1));
  return 0;
}
