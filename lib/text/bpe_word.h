#pragma once

// The working data of BpeEncoder. For bpe_encoder.cc only.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/text/bpe_encoder.h"

namespace tandem {

// A stretch of the normalised text that no merge has joined further yet. Offsets and sizes in
// bytes.
struct BpeEncoder::Symbol {
  uint32_t begin;
  uint32_t size;    // 0: it went into the symbol before it
  int32_t id = -1;  // of the piece; -1 for a character not looked up yet
  int32_t previous = -1;
  int32_t next = -1;
  bool frozen = false;  // a user-defined symbol: takes part in no merge
};

class BpeEncoder::Word {
 public:
  // `text` must be followed by PieceTable::kReadAhead readable bytes.
  Word(std::string_view text, std::vector<int32_t>& ids) : ids(ids), text_(text) {}

  void Add(size_t begin, size_t size) {
    symbols.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(size)});
  }
  void AddFrozen(size_t begin, size_t size, int32_t id) {
    symbols.push_back(
        {static_cast<uint32_t>(begin), static_cast<uint32_t>(size), id, -1, -1, true});
  }
  std::string_view Text(size_t begin, size_t size) const { return {text_.data() + begin, size}; }

  std::vector<Symbol> symbols;
  std::vector<int32_t>& ids;
  bool after_unknown = false;  // the last id is unk
  // How unused pieces came about: text to the size of its left part.
  std::unordered_map<std::string_view, uint32_t> cuts;

 private:
  std::string_view text_;
};

// Candidate merges, best first: the highest score, of equal ones the leftmost.
class MergeQueue {
 public:
  struct Pair {
    float score;
    int32_t left, right;  // indices of symbols
    uint32_t size;        // of both together when the pair was proposed
    int32_t id;           // of the piece they make
  };

  bool empty() const { return heap_.empty(); }
  void Push(const Pair& pair) {
    heap_.push_back(pair);
    std::push_heap(heap_.begin(), heap_.end(), Worse);
  }
  Pair Pop() {
    std::pop_heap(heap_.begin(), heap_.end(), Worse);
    const Pair best = heap_.back();
    heap_.pop_back();
    return best;
  }

 private:
  static bool Worse(const Pair& a, const Pair& b) {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
  std::vector<Pair> heap_;
};

}  // namespace tandem
