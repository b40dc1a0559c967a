#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/vocabulary.h"

namespace tandem {

// Vocabularies for tests: where they come from, and how to write them as files again.

// The golden sets, each with its tokenizer.model and cases.json: those that the repository carries,
// and the full ones.
inline constexpr std::string_view kGoldenSets[] = {"tiny", "small27b", "small1b", "like27b",
                                                   "like1b"};

// The bytes of tests/golden/data/SET/NAME; else those under $TANDEM_GOLDEN_DIR or ../shared/golden,
// when there. Paths are relative to the repository, where tests run.
std::optional<std::string> ReadGoldenFile(std::string_view set, std::string_view name);

// The bytes of a file, or nothing.
std::optional<std::string> ReadFile(const std::string& path);

// A valid vocabulary that needs no file: pad, eos, bos, unk, turn markers, newlines and spaces as
// user-defined symbols, byte pieces, letters, and a few merged pieces ("▁the", "he", ...).
Vocabulary SmallVocabulary();

// Adds a normal piece that ranks after all pieces so far.
void AddMerged(Vocabulary& vocabulary, std::string_view text);

// SentencePiece's model file for a vocabulary.
std::string WriteSentencePieceModel(const Vocabulary& vocabulary);

enum class MergeSpelling { kString, kArray };  // "a b" or ["a","b"]

// Hugging Face's tokenizer.json for a vocabulary: every way to cut a normal piece into two pieces
// is a merge, by score.
std::string WriteTokenizerJson(const Vocabulary& vocabulary, MergeSpelling spelling);

}  // namespace tandem
