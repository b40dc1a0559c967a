// tokenizer.model: any bytes give a valid vocabulary or an error. The input's second half is also
// the text to encode.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "lib/text/sentencepiece_model.h"
#include "tests/fuzz/fuzz_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto vocabulary = tandem::ReadSentencePieceModel(bytes);
  if (vocabulary.ok()) tandem::UseVocabulary(*std::move(vocabulary), bytes.substr(size / 2));
  return 0;
}
