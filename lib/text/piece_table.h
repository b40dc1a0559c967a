#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tandem {

// Text -> (id, score), for the one question that BPE asks for every pair of neighbours: is this
// text a piece? Open addressing with the text itself in the slot up to 15 bytes, so that a lookup
// costs one cache line at most; longer texts are compared through a pointer. The texts added must
// outlive the table.
class PieceTable {
 public:
  // Reading a key may touch this many bytes after its end (they do not matter): pad the buffer.
  static constexpr size_t kReadAhead = 16;

  struct Entry {
    int32_t id = -1;  // -1: there is no such piece
    float score = 0.0f;
  };

  // Room for `count` pieces.
  explicit PieceTable(size_t count);

  // `text`: 1 byte or more, not added before.
  void Add(std::string_view text, Entry entry);

  // `text` must be followed by kReadAhead readable bytes.
  Entry Find(std::string_view text) const {
    if (text.size() > max_length_) return {};
    if (text.size() > kShortBytes) return FindLong(text);
    const Key key = ShortKey(text);
    for (size_t at = HashOf(key) & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.key.low == key.low && slot.key.high == key.high) return slot.entry;
      if (slot.key.high == 0) return {};
    }
  }

  // The same for any text, wherever it is.
  Entry FindUnpadded(std::string_view text) const;

  // Bytes of the longest text.
  size_t max_length() const { return max_length_; }

 private:
  static constexpr size_t kShortBytes = 15;

  // Up to 15 bytes of text, zeros, and the length in the last byte: never all zero in `high`.
  struct Key {
    uint64_t low = 0;
    uint64_t high = 0;
  };
  struct Slot {
    Key key;
    Entry entry;
  };
  static Key ShortKey(std::string_view text) {
    Key key;
    std::memcpy(&key, text.data(), sizeof(key));
    const size_t bits = text.size() * 8;
    if (bits < 64) {
      key.low &= (uint64_t{1} << bits) - 1;
      key.high = 0;
    } else {
      key.high &= (uint64_t{1} << (bits - 64)) - 1;
    }
    key.high |= static_cast<uint64_t>(text.size()) << 56;
    return key;
  }

  static size_t HashOf(const Key& key) {
    uint64_t x = (key.low ^ (key.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    x ^= x >> 32;
    return static_cast<size_t>(x * 0xD6E8FEB86659FD93u >> 20);
  }

  Entry FindLong(std::string_view text) const;

  std::vector<Slot> slots_;
  std::unordered_map<std::string_view, Entry> long_entries_;
  size_t mask_;
  size_t max_length_ = 0;
};

// The user-defined symbols of a vocabulary, for "which is the longest symbol that the text begins
// with?".
class SymbolTrie {
 public:
  struct Match {
    size_t length = 0;  // bytes; 0: no symbol
    int32_t id = -1;
  };

  SymbolTrie() = default;
  // `symbols`: distinct, not empty.
  explicit SymbolTrie(std::vector<std::pair<std::string_view, int32_t>> symbols);

  // O(length of the longest symbol).
  Match LongestMatch(std::string_view text) const {
    if (text.empty() || !begins_[static_cast<unsigned char>(text[0])]) return {};
    return Walk(text);
  }

 private:
  struct Node {
    int32_t id = -1;
    uint32_t first_edge = 0;
    uint32_t edge_count = 0;
  };
  struct Edge {
    char byte;
    uint32_t node;
  };

  Match Walk(std::string_view text) const;

  std::array<bool, 256> begins_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace tandem
