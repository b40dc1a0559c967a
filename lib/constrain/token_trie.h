#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

// The bytes of all tokens of a vocabulary as a tree in one array, each node before its children:
// what many tokens begin with is looked at once. Immutable.
class TokenTrie {
 public:
  struct Node {
    std::uint8_t byte = 0;
    // Nodes up to here begin with this one's bytes.
    std::int32_t end = 0;
    // Of one byte: 1.
    std::int32_t depth = 0;
    // Into tokens(): those that are exactly these bytes.
    std::int32_t first_token = 0;
    std::int32_t last_token = 0;
  };

  // tokens[i]: the bytes of token i; "" for one that no text is made of (control and special ones).
  explicit TokenTrie(const std::vector<std::string>& tokens);

  std::int32_t vocab_size() const { return vocab_size_; }
  std::span<const Node> nodes() const { return nodes_; }
  std::span<const std::int32_t> tokens() const { return tokens_; }
  const std::string& BytesOf(std::int32_t token) const {
    return bytes_[static_cast<std::size_t>(token)];
  }
  // The longest token that `text` begins with, or -1. Of equal ones the last: the pieces that stand
  // for one byte come before those that text is made of.
  std::int32_t Longest(std::string_view text) const;
  std::int32_t max_depth() const { return max_depth_; }

 private:
  void Build(std::span<const std::int32_t> sorted);

  std::int32_t vocab_size_;
  std::vector<std::string> bytes_;
  std::vector<Node> nodes_;
  std::vector<std::int32_t> tokens_;
  std::int32_t max_depth_ = 0;
};

}  // namespace tandem
