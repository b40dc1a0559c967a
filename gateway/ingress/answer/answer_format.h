#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/ingress/token_text.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// What stays the same over all parts of one answer.
struct AnswerInfo {
  std::string id;            // "chatcmpl-..." or "cmpl-..."
  std::int64_t created = 0;  // Unix seconds
  std::string model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::int32_t num_logprobs = -1;  // -1: none are shown
  bool tokens_as_ids = false;      // "token_id:N" instead of the token's text
  bool include_usage = false;      // of a stream
};

// One choice, whole or (in a stream) what is new of it.
struct AnswerPart {
  int index = 0;
  std::string text;
  std::vector<ScoredToken> tokens;
  std::optional<FinishReason> finish;  // kStop or kLength
};

struct AnswerUsage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
};

// Writes answers as JSON: one implementation for chat, one for completions. Chunks are JSON texts;
// framing as server-sent events is the caller's.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  virtual std::string Whole(const std::vector<AnswerPart>& parts, const AnswerUsage& usage) = 0;
  // The chunk that opens a choice; "" where the API has none.
  virtual std::string Opening(int index) = 0;
  virtual std::string Chunk(const AnswerPart& part) = 0;
  // The last chunk of a stream with include_usage: no choices.
  virtual std::string UsageChunk(const AnswerUsage& usage) = 0;
};

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerInfo info);
std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerInfo info);

}  // namespace tandem
