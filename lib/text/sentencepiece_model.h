#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// Reads a `tokenizer.model`: SentencePiece's ModelProto (sentencepiece_model.proto) in protobuf's
// wire format, of which only the fields below matter. A reader of our own, because libsentencepiece
// brings its own copy of protobuf-lite and cannot share a process with gRPC, and because a
// vocabulary of 262,144 pieces must load in well under a second.
//   1 pieces {1 text, 2 score, 3 type}   2 trainer_spec {3 model_type, 24
//   treat_whitespace_as_suffix, 35 byte_fallback, 40-43 unk/bos/eos/pad id, 44 unk_surface}   3
//   normalizer_spec {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5
//   escape_whitespaces}   5 denormalizer_spec (the same)
//
// InvalidArgument for broken bytes (naming the offset) or a vocabulary that does not validate;
// Unimplemented for what Gemma does not use: model types other than BPE, normalisation rules,
// whitespace as suffix or unescaped.
absl::StatusOr<Vocabulary> ReadSentencePieceModel(std::string_view bytes);

}  // namespace tandem
