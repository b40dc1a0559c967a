#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/constrain/automaton.h"
#include "lib/constrain/token_trie.h"

namespace tandem {

// One bit for each token of the vocabulary, set where it may come.
using TokenMask = std::vector<std::uint64_t>;

// What a grammar allows a model to say, token by token: one of these serves all sequences under one
// grammar, and keeps every mask that it has made while there is room. Any thread may call; one call
// runs at a time. RESOURCE_EXHAUSTED from any call: the grammar is too large or too ambiguous to be
// followed (automaton.h has the bounds).
class TokenMasks {
 public:
  using State = Automaton::State;
  static constexpr std::size_t kMaxMaskBytes = std::size_t{32} << 20;
  // Of one jump.
  static constexpr std::size_t kMaxForcedBytes = 256;

  // `stop_tokens` end the text, and may come where it is whole: at least one.
  static absl::StatusOr<std::shared_ptr<TokenMasks>> Create(std::string_view grammar,
                                                            std::shared_ptr<const TokenTrie> trie,
                                                            std::vector<std::int32_t> stop_tokens);

  absl::StatusOr<State> Start();
  // After `token`, which MaskOf(state) allows; INVALID_ARGUMENT where it does not. A stop token
  // leaves the state as it is.
  absl::StatusOr<State> Accept(State state, std::int32_t token);
  // Good as long as it is held.
  absl::StatusOr<std::shared_ptr<const TokenMask>> MaskOf(State state);

  // Where only one text can follow: tokens that spell it, each the longest there is, without the
  // last one where the text may go on differently, which could be spelled with what comes then.
  // Empty where there is a choice. Of a long text the beginning; asked again behind it, the rest
  // comes, so that the tokens are the same wherever one begins to ask.
  absl::StatusOr<std::vector<std::int32_t>> Forced(State state);

  std::size_t memory() const;

 private:
  TokenMasks(GrammarProgram program, std::shared_ptr<const TokenTrie> trie,
             std::vector<std::int32_t> stop_tokens);
  absl::StatusOr<TokenMask> Compute(State state);

  const std::shared_ptr<const TokenTrie> trie_;
  const std::vector<std::int32_t> stop_tokens_;
  mutable std::mutex mutex_;
  Automaton automaton_;
  std::unordered_map<State, std::shared_ptr<const TokenMask>> masks_;
  std::size_t mask_bytes_ = 0;
  // The states along the path from the root, while the trie is walked.
  std::vector<State> path_;
};

inline bool Allows(const TokenMask& mask, std::int32_t token) {
  return (mask[static_cast<std::size_t>(token) / 64] >> (static_cast<std::size_t>(token) % 64) &
          1) != 0;
}

// The TokenMasks of the grammars in use, found by their text, and of some more that were. Any
// thread.
class MaskCache {
 public:
  static constexpr std::size_t kMaxIdle = 32;
  static constexpr std::size_t kMaxIdleBytes = std::size_t{256} << 20;

  explicit MaskCache(std::shared_ptr<const TokenTrie> trie) : trie_(std::move(trie)) {}
  // Compiles where it must. Errors are those of CompileGrammar.
  absl::StatusOr<std::shared_ptr<TokenMasks>> Get(const std::string& grammar,
                                                  const std::vector<std::int32_t>& stop_tokens);

 private:
  struct Entry {
    std::string grammar;
    std::vector<std::int32_t> stop_tokens;
    std::shared_ptr<TokenMasks> masks;
  };
  void Evict();

  const std::shared_ptr<const TokenTrie> trie_;
  std::mutex mutex_;
  // The last used one first.
  std::vector<Entry> entries_;
};

}  // namespace tandem
