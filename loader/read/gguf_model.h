#pragma once

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/text/vocabulary.h"
#include "loader/read/gguf.h"

namespace tandem {

// The metadata of a `gemma3` or `gemma-embedding` GGUF file -> our plain data. INVALID_ARGUMENT
// names the key, what was expected and what was found.
//
// What GGUF does not carry: query_pre_attn_scalar is hidden / heads for the 27B shape (62 blocks),
// else head_dim; every sixth layer is global unless the file has a pattern.
absl::StatusOr<ModelConfig> ModelConfigFromGguf(const GgufHeader& header);
absl::StatusOr<Vocabulary> VocabularyFromGguf(const GgufHeader& header);

}  // namespace tandem
