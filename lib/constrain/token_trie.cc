#include "lib/constrain/token_trie.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace tandem {

TokenTrie::TokenTrie(const std::vector<std::string>& tokens)
    : vocab_size_(static_cast<std::int32_t>(tokens.size())), bytes_(tokens) {
  std::vector<std::int32_t> sorted;
  sorted.reserve(tokens.size());
  for (std::int32_t token = 0; token < vocab_size_; ++token) {
    if (!BytesOf(token).empty()) sorted.push_back(token);
  }
  std::sort(sorted.begin(), sorted.end(), [this](std::int32_t a, std::int32_t b) {
    const int order = BytesOf(a).compare(BytesOf(b));
    return order < 0 || (order == 0 && a < b);
  });
  Build(sorted);
}

void TokenTrie::Build(std::span<const std::int32_t> sorted) {
  // The nodes of the token before, from the root on.
  std::vector<std::size_t> path;
  const auto close = [&](std::size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes_[path.back()].end = static_cast<std::int32_t>(nodes_.size());
  };
  std::string_view before;
  for (const std::int32_t token : sorted) {
    const std::string& bytes = BytesOf(token);
    const auto differ = std::mismatch(before.begin(), before.end(), bytes.begin(), bytes.end());
    close(static_cast<std::size_t>(differ.first - before.begin()));
    while (path.size() < bytes.size()) {
      path.push_back(nodes_.size());
      nodes_.push_back({.byte = static_cast<std::uint8_t>(bytes[path.size() - 1]),
                        .depth = static_cast<std::int32_t>(path.size()),
                        .first_token = static_cast<std::int32_t>(tokens_.size()),
                        .last_token = static_cast<std::int32_t>(tokens_.size())});
    }
    tokens_.push_back(token);
    nodes_[path.back()].last_token = static_cast<std::int32_t>(tokens_.size());
    max_depth_ = std::max(max_depth_, static_cast<std::int32_t>(bytes.size()));
    before = bytes;
  }
  close(0);
}

std::int32_t TokenTrie::Longest(std::string_view text) const {
  std::int32_t best = -1;
  std::int32_t begin = 0;
  auto end = static_cast<std::int32_t>(nodes_.size());
  for (const char c : text) {
    while (begin < end &&
           nodes_[static_cast<std::size_t>(begin)].byte != static_cast<std::uint8_t>(c))
      begin = nodes_[static_cast<std::size_t>(begin)].end;
    if (begin >= end) return best;
    const Node& node = nodes_[static_cast<std::size_t>(begin)];
    if (node.first_token < node.last_token)
      best = tokens_[static_cast<std::size_t>(node.last_token) - 1];
    ++begin;
    end = node.end;
  }
  return best;
}

}  // namespace tandem
