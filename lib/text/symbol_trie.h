#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem {

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
