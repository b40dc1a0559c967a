#include "gateway/ingress/answer/token_text.h"

#include <limits>
#include <utility>

#include "absl/types/span.h"

namespace tandem {
namespace {

constexpr std::uint64_t kOpen = std::numeric_limits<std::uint64_t>::max();

std::uint64_t CountCharacters(const std::string& text) {
  std::uint64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace

TokenText::TokenText(std::shared_ptr<const Tokenizer> tokenizer, StopMatcher stops)
    : tokenizer_(tokenizer), detokenizer_(std::move(tokenizer)), stops_(std::move(stops)) {
  detokenizer_.SkipSpecial(true);
}

// A model's vocabulary may be padded beyond the tokenizer's: such ids have no text.
std::string TokenText::Detokenize(std::int32_t token) {
  absl::StatusOr<std::string> text = detokenizer_.Append(absl::MakeConstSpan(&token, 1));
  return text.ok() ? *std::move(text) : std::string();
}

void TokenText::Push(ScoredToken token, const std::string& text) {
  token.text_offset = text_characters_;
  Pending entry{.token = std::move(token), .begin = text_bytes_, .end = 0};
  text_bytes_ += text.size();
  text_characters_ += CountCharacters(text);
  pending_.push_back(std::move(entry));
  // Tokens that hold parts of one character end where the character ends.
  const bool incomplete = detokenizer_.held_bytes() > 0;
  pending_.back().end = incomplete ? kOpen : text_bytes_;
  if (incomplete) return;
  for (auto it = pending_.rbegin(); it != pending_.rend(); ++it) {
    if (it->end == kOpen) it->end = text_bytes_;
  }
}

void TokenText::Release(Output& out) {
  const std::uint64_t cut = stopped() ? echoed_bytes_ + stops_.match_position() : kOpen;
  while (!pending_.empty()) {
    Pending& entry = pending_.front();
    const bool dropped = entry.begin >= cut;
    if (!dropped && entry.end > released_bytes_ && !stopped()) return;
    if (!dropped) out.tokens.push_back(std::move(entry.token));
    pending_.pop_front();
  }
}

void TokenText::Echo(const std::vector<std::int32_t>& prompt, std::vector<SampledToken> scores,
                     Output& out) {
  detokenizer_.SkipSpecial(false);
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    ScoredToken token{.token = prompt[i], .logprob = {}, .top = {}, .text_offset = 0};
    if (i > 0 && i - 1 < scores.size()) {
      token.logprob = scores[i - 1].logprob;
      token.top = std::move(scores[i - 1].top);
    }
    const std::string text = Detokenize(prompt[i]);
    Push(std::move(token), text);
    out.text.append(text);
  }
  detokenizer_.SkipSpecial(true);
  echoed_bytes_ = text_bytes_;
  released_bytes_ = text_bytes_;
  Release(out);
}

void TokenText::Append(SampledToken token, Output& out) {
  if (stopped()) return;
  const std::string text = Detokenize(token.token);
  ScoredToken scored{.token = token.token,
                     .logprob = token.logprob,
                     .top = std::move(token.top),
                     .text_offset = 0};
  Push(std::move(scored), text);
  const std::string passed = stops_.Append(text);
  released_bytes_ += passed.size();
  out.text.append(passed);
  Release(out);
}

void TokenText::Finish(Output& out) {
  if (stopped()) return;
  const std::string rest = detokenizer_.Flush();
  text_bytes_ += rest.size();
  text_characters_ += CountCharacters(rest);
  for (Pending& entry : pending_) {
    if (entry.end == kOpen) entry.end = text_bytes_;
  }
  std::string passed = stops_.Append(rest);
  if (!stopped()) passed.append(stops_.Flush());
  released_bytes_ += passed.size();
  out.text.append(passed);
  Release(out);
}

}  // namespace tandem
