#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// The tokenizer.ggml.* metadata of a GGUF file whose tokenizer.ggml.model is "llama" (SentencePiece
// BPE). All views are only read during the call.
struct GgufVocabularyArrays {
  absl::Span<const std::string_view> tokens;  // tokens
  absl::Span<const float> scores;             // scores: as many
  absl::Span<const int32_t> types;            // token_type: as many
  std::optional<uint32_t> bos_id;             // bos_token_id
  std::optional<uint32_t> eos_id;             // eos_token_id
  std::optional<uint32_t> unk_id;             // unknown_token_id
  std::optional<uint32_t> pad_id;             // padding_token_id
  bool add_bos = true;                        // add_bos_token
  bool add_eos = false;                       // add_eos_token
  bool add_space_prefix = true;               // add_space_prefix; GGUF's default is true
};

// Brings the arrays to what the model's tokenizer.model says. GGUF writers mark <start_of_turn> and
// its like as control: all control pieces but bos, eos, pad and unk become special user-defined
// symbols again; they write spaces for U+2581 in user-defined symbols: undone; some lose the type
// user-defined altogether: normal pieces of score 0 that the order of ranks shows to be no merge
// get it back. InvalidArgument when lengths, types or ids disagree, naming what was expected and
// found.
absl::StatusOr<Vocabulary> VocabularyFromGgufArrays(const GgufVocabularyArrays& arrays);

}  // namespace tandem
