#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// Reads a Hugging Face `tokenizer.json` that was converted from SentencePiece BPE, as Gemma's was:
// model type BPE with byte_fallback, merges spelled "a b" or ["a","b"], added_tokens for control
// pieces and user-defined symbols.
//
// Scores: merge number r makes the piece a+b with score -r; of several merges that make one piece
// the first counts (the converter lists every way to cut a piece). That orders merges as the scores
// of tokenizer.model do, so ids are the same. A piece that no merge makes scores below all that
// some merge makes. Types: unk_token is unknown; <0xNN> are bytes when byte_fallback is set; added
// tokens named as bos, eos or pad are control; the other added tokens are user-defined symbols,
// special where the file says so or IsGemmaMarker does.
//
// InvalidArgument for broken JSON, wrong types, ids with gaps or a merge of unknown pieces, each
// with its place; Unimplemented, with the type's name, for another model, normalizer or
// pre-tokenizer.
absl::StatusOr<Vocabulary> ReadTokenizerJson(std::string_view text);

}  // namespace tandem
