#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/sample/sampler.h"
#include "lib/text/detokenizer.h"
#include "lib/text/stop_matcher.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// One token of an answer or of an echoed prompt, as log-probabilities report it.
struct ScoredToken {
  std::int32_t token = 0;
  std::optional<float> logprob;   // absent for the first token of a prompt
  std::vector<TokenLogprob> top;  // best first
  std::uint64_t text_offset = 0;  // characters of the whole text that stand before the token's
};

// Tokens in, text out: detokenises, cuts at stop strings and keeps each token beside the text that
// it stands for. Special tokens (<end_of_turn>) of an answer have no text; those of an echoed
// prompt are what the caller wrote. A token is handed on together with the last byte of its text;
// one whose text begins at or behind a stop string is dropped. One thread at a time.
class TokenText {
 public:
  // `stops` must be valid (StopMatcher::Create).
  TokenText(std::shared_ptr<const Tokenizer> tokenizer, StopMatcher stops);

  struct Output {
    std::string text;
    std::vector<ScoredToken> tokens;
  };

  // The prompt, before any Append: it is handed on as it is; stop strings do not look at it.
  // scores[i] belongs to prompt[i + 1]; empty: no log-probabilities.
  void Echo(const std::vector<std::int32_t>& prompt, std::vector<SampledToken> scores, Output& out);
  void Append(SampledToken token, Output& out);
  // The end: hands on what was held back.
  void Finish(Output& out);
  // A stop string was found: all text and tokens before it have been handed on.
  bool stopped() const { return stops_.matched(); }
  // Which one; -1 before.
  int stop() const { return stops_.matched_stop(); }

 private:
  struct Pending {
    ScoredToken token;
    std::uint64_t begin = 0;  // bytes of the text before this token's
    std::uint64_t end = 0;    // kOpen while its character is incomplete
  };

  std::string Detokenize(std::int32_t token);
  void Push(ScoredToken token, const std::string& text);
  void Release(Output& out);

  std::shared_ptr<const Tokenizer> tokenizer_;
  StreamingDetokenizer detokenizer_;
  StopMatcher stops_;
  std::deque<Pending> pending_;
  std::uint64_t echoed_bytes_ = 0;  // these stand before what the stop matcher counts
  std::uint64_t text_bytes_ = 0;    // detokenised so far
  std::uint64_t text_characters_ = 0;
  std::uint64_t released_bytes_ = 0;  // handed on
};

}  // namespace tandem
