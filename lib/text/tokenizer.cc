#include "lib/text/tokenizer.h"

#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/bpe_encoder.h"
#include "lib/text/detokenizer.h"

namespace tandem {

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Create(Vocabulary vocabulary) {
  TANDEM_RETURN_IF_ERROR(vocabulary.Validate());
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(vocabulary)));
}

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), encoder_(std::make_unique<BpeEncoder>(vocabulary_)) {
  ids_.reserve(vocabulary_.pieces.size());
  for (size_t id = 0; id < vocabulary_.pieces.size(); ++id) {
    ids_.emplace(vocabulary_.pieces[id].text, static_cast<int32_t>(id));
  }
}

Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (options.add_bos && vocabulary_.bos_id != kNoPiece) ids.push_back(vocabulary_.bos_id);
  encoder_->Encode(text, options.parse_special, BpeEncoder::kNoLimit, ids);
  return ids;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeAtMost(std::string_view text, size_t max_ids,
                                                             EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (options.add_bos && vocabulary_.bos_id != kNoPiece) ids.push_back(vocabulary_.bos_id);
  if (!encoder_->Encode(text, options.parse_special, max_ids, ids) || ids.size() > max_ids) {
    return absl::OutOfRangeError(
        Cat("expected at most ", max_ids, " tokens, found more in ", text.size(), " bytes"));
  }
  return ids;
}

absl::Status Tokenizer::ValidateIds(absl::Span<const int32_t> ids) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && static_cast<size_t>(ids[i]) < size()) continue;
    return absl::OutOfRangeError(
        Cat("token ", i, ": expected an id from 0 to ", size() - 1, ", found ", ids[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids) const {
  TANDEM_RETURN_IF_ERROR(ValidateIds(ids));
  std::string text;
  PieceDecoder decoder(vocabulary_);
  for (int32_t id : ids) decoder.Append(id, text);
  decoder.Flush(text);
  return text;
}

std::string_view Tokenizer::PieceOf(int32_t id) const {
  TANDEM_CHECK(id >= 0 && static_cast<size_t>(id) < size());
  return vocabulary_.pieces[id].text;
}

std::string Tokenizer::BytesOf(int32_t id) const {
  TANDEM_CHECK(id >= 0 && static_cast<size_t>(id) < size());
  return BytesOfPiece(vocabulary_, id);
}

int32_t Tokenizer::IdOf(std::string_view piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? kNoPiece : found->second;
}

}  // namespace tandem
