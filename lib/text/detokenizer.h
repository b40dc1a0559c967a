#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/text/piece_decoder.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// Turns a growing sequence of token ids into text, piece by piece. What comes out is always whole
// UTF-8 characters: the bytes of byte pieces are held until their character is complete or cannot
// become one. All outputs put together equal Tokenizer::Decode of all ids, unless special symbols
// are skipped. One thread at a time.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer);

  // The text that `ids` complete, perhaps empty. OutOfRange, naming index in `ids` and id, for an
  // id that is not in the vocabulary; then nothing was taken.
  absl::StatusOr<std::string> Append(absl::Span<const int32_t> ids);

  // Whether special symbols (<end_of_turn>) among the ids that follow are text, as Decode has them,
  // or nothing: in an answer they steer the model and are no part of what it says. Off at first.
  void SkipSpecial(bool skip) { decoder_.set_skip_special(skip); }

  // The end: U+FFFD for each byte still held. Afterwards the object is as new.
  std::string Flush();

  // Bytes held back now, at most 3.
  size_t held_bytes() const { return decoder_.held_bytes(); }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  PieceDecoder decoder_;
};

}  // namespace tandem
