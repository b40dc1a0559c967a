#include "lib/text/piece_table.h"

#include <algorithm>
#include <bit>
#include <string>

#include "lib/base/status_macros.h"

namespace tandem {

static_assert(std::endian::native == std::endian::little, "ShortKey masks the bytes after a text");

PieceTable::PieceTable(size_t count)
    : slots_(std::bit_ceil(2 * count + 2)), mask_(slots_.size() - 1) {}

void PieceTable::Add(std::string_view text, Entry entry) {
  TANDEM_CHECK(!text.empty());
  if (text.size() > max_length_) max_length_ = text.size();
  if (text.size() > kShortBytes) {
    long_entries_.emplace(text, entry);
    return;
  }
  std::string padded(text);
  padded.resize(text.size() + kReadAhead);
  const Key key = ShortKey(std::string_view(padded).substr(0, text.size()));
  size_t at = HashOf(key) & mask_;
  while (slots_[at].key.high != 0) at = (at + 1) & mask_;
  slots_[at] = {key, entry};
}

PieceTable::Entry PieceTable::FindLong(std::string_view text) const {
  const auto found = long_entries_.find(text);
  return found == long_entries_.end() ? Entry{} : found->second;
}

PieceTable::Entry PieceTable::FindUnpadded(std::string_view text) const {
  if (text.empty() || text.size() > max_length_) return {};
  std::string padded(text);
  padded.resize(text.size() + kReadAhead);
  return Find(std::string_view(padded).substr(0, text.size()));
}

SymbolTrie::SymbolTrie(std::vector<std::pair<std::string_view, int32_t>> symbols) {
  std::sort(symbols.begin(), symbols.end());
  // Breadth first: node i stands for the symbols [range.first, range.second) that share `depth`
  // bytes.
  struct Range {
    size_t first, last, depth;
  };
  std::vector<Range> ranges = {{0, symbols.size(), 0}};
  for (size_t i = 0; i < ranges.size(); ++i) {
    Range range = ranges[i];
    Node node;
    if (range.first < range.last && symbols[range.first].first.size() == range.depth) {
      node.id = symbols[range.first].second;  // the shortest sorts first
      ++range.first;
    }
    node.first_edge = static_cast<uint32_t>(edges_.size());
    while (range.first < range.last) {
      const char byte = symbols[range.first].first[range.depth];
      size_t end = range.first;
      while (end < range.last && symbols[end].first[range.depth] == byte) ++end;
      edges_.push_back({byte, static_cast<uint32_t>(ranges.size())});
      ranges.push_back({range.first, end, range.depth + 1});
      if (range.depth == 0) begins_[static_cast<unsigned char>(byte)] = true;
      range.first = end;
    }
    node.edge_count = static_cast<uint32_t>(edges_.size()) - node.first_edge;
    nodes_.push_back(node);
  }
}

SymbolTrie::Match SymbolTrie::Walk(std::string_view text) const {
  Match best;
  const Node* node = &nodes_[0];
  for (size_t depth = 0; depth < text.size(); ++depth) {
    const Edge* edge = edges_.data() + node->first_edge;
    const Edge* const end = edge + node->edge_count;
    while (edge != end && edge->byte != text[depth]) ++edge;
    if (edge == end) break;
    node = &nodes_[edge->node];
    if (node->id >= 0) best = {depth + 1, node->id};
  }
  return best;
}

}  // namespace tandem
