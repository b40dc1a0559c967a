#include "lib/text/detokenizer.h"

#include <utility>

#include "lib/base/status_macros.h"

namespace tandem {

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)), decoder_(tokenizer_->vocabulary()) {}

absl::StatusOr<std::string> StreamingDetokenizer::Append(absl::Span<const int32_t> ids) {
  TANDEM_RETURN_IF_ERROR(tokenizer_->ValidateIds(ids));
  std::string text;
  for (int32_t id : ids) decoder_.Append(id, text);
  return text;
}

std::string StreamingDetokenizer::Flush() {
  std::string text;
  decoder_.Flush(text);
  return text;
}

}  // namespace tandem
