#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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

}  // namespace tandem
