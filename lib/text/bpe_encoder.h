#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/piece_table.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// Text to ids, without bos: normalisation, user-defined symbols, merges, byte fallback. Part of
// Tokenizer.
//
// The order of merges is SentencePiece's: over the whole text the pair whose joined text is the
// piece with the highest score, the leftmost of equals. No merge crosses a user-defined symbol;
// nor, when no piece has U+2581 after another character, the beginning of a word. So the text is
// cut there and each word is merged by itself, which gives the same ids and keeps the work small;
// words of over kSmallWord characters use a queue, O(n log n).
class BpeEncoder {
 public:
  // `vocabulary` must be valid and outlive the encoder.
  explicit BpeEncoder(const Vocabulary& vocabulary);

  static constexpr size_t kNoLimit = SIZE_MAX;

  // Adds to `ids`. False: they would become more than `max_ids`, and what was added is not whole.
  bool Encode(std::string_view text, bool parse_special, size_t max_ids,
              std::vector<int32_t>& ids) const;

 private:
  struct Symbol;
  class Word;  // the symbols being merged, and the ids so far

  static constexpr size_t kSmallWord = 24;

  bool CertainlyOver(std::string_view text, size_t max_ids) const;
  void LearnSymbols();
  bool AnyUnusedReachable() const;
  std::string Normalize(std::string_view text, const SymbolTrie& symbols) const;
  std::string NormalizeExtraSpaces(std::string_view text, const SymbolTrie& symbols) const;

  void Merge(Word& word) const;
  void MergeSmall(Word& word) const;
  void MergeWithQueue(Word& word) const;
  void Emit(Word& word) const;
  void EmitUnused(std::string_view text, Word& word) const;
  void EmitId(std::string_view text, int32_t id, Word& word) const;
  int32_t IdOfCharacter(std::string_view character) const;

  const Vocabulary& vocabulary_;
  PieceTable pieces_;            // normal and unused ones: what merges can make
  SymbolTrie all_symbols_;       // user-defined symbols
  SymbolTrie harmless_symbols_;  // those that are not special
  std::array<int32_t, 256> byte_ids_{};
  std::array<int32_t, 128> ascii_ids_{};
  // a merge can end on an unused piece: the history of all merges matters
  bool unused_reachable_ = false;
  bool cut_before_space_ = false;
  size_t longest_piece_ = 1;  // bytes that one id can stand for at most; 0: any number
};

}  // namespace tandem
