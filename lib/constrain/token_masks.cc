#include "lib/constrain/token_masks.h"

#include <algorithm>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/grammar_program.h"

namespace tandem {
namespace {

absl::Status Exhausted() {
  return absl::ResourceExhaustedError(
      "the grammar or schema is too large or too ambiguous to be followed");
}

void Allow(TokenMask& mask, std::int32_t token) {
  mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1}
                                                << (static_cast<std::size_t>(token) % 64);
}

}  // namespace

absl::StatusOr<std::shared_ptr<TokenMasks>> TokenMasks::Create(
    std::string_view grammar, std::shared_ptr<const TokenTrie> trie,
    std::vector<std::int32_t> stop_tokens) {
  if (stop_tokens.empty())
    return absl::InvalidArgumentError("stop tokens: expected at least one, found none");
  for (const std::int32_t token : stop_tokens) {
    if (token >= 0 && token < trie->vocab_size()) continue;
    return absl::InvalidArgumentError(
        Cat("stop tokens: expected 0 to ", trie->vocab_size() - 1, ", found ", token));
  }
  TANDEM_ASSIGN_OR_RETURN(GrammarProgram program, CompileGrammar(grammar));
  return std::shared_ptr<TokenMasks>(
      new TokenMasks(std::move(program), std::move(trie), std::move(stop_tokens)));
}

TokenMasks::TokenMasks(GrammarProgram program, std::shared_ptr<const TokenTrie> trie,
                       std::vector<std::int32_t> stop_tokens)
    : trie_(std::move(trie)),
      stop_tokens_(std::move(stop_tokens)),
      automaton_(std::move(program)),
      path_(static_cast<std::size_t>(trie_->max_depth()) + 1) {}

absl::StatusOr<TokenMasks::State> TokenMasks::Start() {
  const std::lock_guard lock(mutex_);
  automaton_.Refresh();
  const State state = automaton_.start();
  return state >= 0 ? absl::StatusOr<State>(state) : Exhausted();
}

absl::StatusOr<TokenMasks::State> TokenMasks::Accept(State state, std::int32_t token) {
  const std::lock_guard lock(mutex_);
  const auto wrong = [&] {
    return absl::InvalidArgumentError(Cat("token ", token, " is not what the grammar allows"));
  };
  if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end())
    return automaton_.IsWhole(state) ? absl::StatusOr<State>(state) : wrong();
  if (token < 0 || token >= trie_->vocab_size() || trie_->BytesOf(token).empty()) return wrong();
  automaton_.Refresh();
  for (const char c : trie_->BytesOf(token))
    state = automaton_.Next(state, static_cast<std::uint8_t>(c));
  if (state == Automaton::kExhausted) return Exhausted();
  return state == Automaton::kDead ? wrong() : absl::StatusOr<State>(state);
}

absl::StatusOr<std::shared_ptr<const TokenMask>> TokenMasks::MaskOf(State state) {
  const std::lock_guard lock(mutex_);
  const auto known = masks_.find(state);
  if (known != masks_.end()) return known->second;
  TANDEM_ASSIGN_OR_RETURN(TokenMask computed, Compute(state));
  const std::size_t bytes = computed.size() * sizeof(std::uint64_t);
  if (mask_bytes_ + bytes > kMaxMaskBytes) {
    masks_.clear();
    mask_bytes_ = 0;
  }
  mask_bytes_ += bytes;
  auto mask = std::make_shared<const TokenMask>(std::move(computed));
  masks_.emplace(state, mask);
  return mask;
}

absl::StatusOr<TokenMask> TokenMasks::Compute(State state) {
  TokenMask mask((static_cast<std::size_t>(trie_->vocab_size()) + 63) / 64, 0);
  automaton_.Refresh();
  const std::span<const TokenTrie::Node> nodes = trie_->nodes();
  const std::span<const std::int32_t> tokens = trie_->tokens();
  path_[0] = state;
  bool any = false;
  for (std::size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const auto depth = static_cast<std::size_t>(node.depth);
    const State next = automaton_.Next(path_[depth - 1], node.byte);
    if (next == Automaton::kExhausted) return Exhausted();
    if (next == Automaton::kDead) {
      i = static_cast<std::size_t>(node.end);
      continue;
    }
    path_[depth] = next;
    for (std::int32_t t = node.first_token; t < node.last_token; ++t)
      Allow(mask, tokens[static_cast<std::size_t>(t)]);
    any = any || node.first_token < node.last_token;
    ++i;
  }
  if (automaton_.IsWhole(state)) {
    for (const std::int32_t token : stop_tokens_) Allow(mask, token);
    any = true;
  }
  if (any) return mask;
  return absl::FailedPreconditionError(
      "the vocabulary has no token for what the grammar or schema asks for here");
}

absl::StatusOr<std::vector<std::int32_t>> TokenMasks::Forced(State state) {
  const std::lock_guard lock(mutex_);
  automaton_.Refresh();
  const auto longest = static_cast<std::size_t>(trie_->max_depth());
  std::string text;
  bool cut_off = true;
  while (text.size() < kMaxForcedBytes + longest) {
    const int byte = automaton_.OnlyByte(state);
    cut_off = byte >= 0;
    if (!cut_off) break;
    text.push_back(static_cast<char>(byte));
    state = automaton_.Next(state, static_cast<std::uint8_t>(byte));
    if (state == Automaton::kExhausted) return Exhausted();
  }
  const bool ends = automaton_.IsFinal(state);
  std::vector<std::int32_t> forced;
  std::string_view left = text;
  while (!left.empty()) {
    // Where the next token ends must not depend on where this text was cut off.
    if (cut_off && left.size() < longest) break;
    const std::int32_t token = trie_->Longest(left);
    if (token < 0) break;
    left.remove_prefix(trie_->BytesOf(token).size());
    // The last one could be part of a longer token.
    if (left.empty() && !ends) break;
    forced.push_back(token);
  }
  return forced;
}

std::size_t TokenMasks::memory() const {
  const std::lock_guard lock(mutex_);
  return automaton_.memory() + mask_bytes_;
}

absl::StatusOr<std::shared_ptr<TokenMasks>> MaskCache::Get(
    const std::string& grammar, const std::vector<std::int32_t>& stop_tokens) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.grammar == grammar && entry.stop_tokens == stop_tokens;
  });
  if (found != entries_.end()) {
    // One that has grown far goes on for those who have it, and ends with them.
    if (found->masks->memory() < TokenMasks::kMaxMaskBytes * 2) {
      std::rotate(entries_.begin(), found, found + 1);
      return entries_.front().masks;
    }
    entries_.erase(found);
  }
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<TokenMasks> masks,
                          TokenMasks::Create(grammar, trie_, stop_tokens));
  entries_.insert(entries_.begin(), {grammar, stop_tokens, masks});
  Evict();
  return masks;
}

void MaskCache::Evict() {
  std::size_t idle = 0;
  std::size_t bytes = 0;
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.masks.use_count() > 1) return false;
    bytes += entry.masks->memory() + entry.grammar.size();
    return ++idle > kMaxIdle || bytes > kMaxIdleBytes;
  });
}

}  // namespace tandem
