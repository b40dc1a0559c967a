#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/text/tokenizer.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// Ids to text, one id at a time. Part of Tokenizer::Decode and StreamingDetokenizer, which
// therefore agree.
class PieceDecoder {
 public:
  // `vocabulary` must be valid and outlive the decoder.
  explicit PieceDecoder(const Vocabulary& vocabulary, bool skip_special = false)
      : vocabulary_(&vocabulary), skip_special_(skip_special) {}

  // Appends to `out` the characters that `id`, which must be in range, completes.
  void Append(int32_t id, std::string& out);

  // Appends U+FFFD for each byte held and begins anew.
  void Flush(std::string& out);

  // From the next id on.
  void set_skip_special(bool skip) { skip_special_ = skip; }

  size_t held_bytes() const { return held_.size(); }

 private:
  void AppendText(std::string_view text, std::string& out);
  void ReleaseCharacters(bool at_end, std::string& out);

  const Vocabulary* vocabulary_;
  bool skip_special_;            // special user-defined symbols give nothing, as control pieces do
  std::string held_;             // bytes of a character that is not complete
  bool any_text_ = false;        // something came out already
  bool at_start_ = true;         // a leading space may still be one that the encoder put there
  bool prefix_dropped_ = false;  // the piece before lost such a space
};

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
