#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ingress/answer/token_text.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/request.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// What stays the same over all parts of one answer.
struct AnswerInfo {
  // "chatcmpl-...", "msg_...", ...
  std::string id;
  // Unix seconds.
  std::int64_t created = 0;
  std::string model;
  std::shared_ptr<const Tokenizer> tokenizer;
  // -1: none are shown.
  std::int32_t num_logprobs = -1;
  // "token_id:N" instead of the token's text.
  bool tokens_as_ids = false;
  // Of a stream.
  bool include_usage = false;
};

// More of a call that the assistant makes: the first one of a call has its id and name, all of them
// the next piece of the arguments' JSON text.
struct ToolCallDelta {
  // Which of the choice's calls, from 0.
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
};

enum class AnswerEnd : std::uint8_t { kStop, kLength, kToolCalls };

// What is new of one choice, or (where nothing is streamed) all of it: every door writes its
// answers from these.
struct AnswerEvent {
  int index = 0;
  // The first one of its choice.
  bool first = false;
  std::string text;
  std::vector<ScoredToken> tokens;
  std::vector<ToolCallDelta> tool_calls;
  // Instead of all these, where it was asked for: (hidden).
  std::vector<float> embedding;
  // In the last one of its choice.
  std::optional<AnswerEnd> end;
  // The stop string that ended it; "" where another thing did.
  std::string stop;
};

struct AnswerUsage {
  std::int64_t prompt_tokens = 0;
  // Of those, how many came from a cache of earlier prompts.
  std::int64_t cached_tokens = 0;
  std::int64_t completion_tokens = 0;
};

// Writes the answer to one request as its API has it. What it gives for a stream is framed already
// (server-sent events, lines). One thread at a time.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // The body of an answer that is not streamed: one event for each choice, in order.
  virtual std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) = 0;

  virtual std::string_view stream_type() const { return "text/event-stream; charset=utf-8"; }
  // Before the first event; `usage` knows the prompt.
  virtual std::string Begin(const AnswerUsage& usage) = 0;
  virtual std::string Next(const AnswerEvent& event) = 0;
  // After every choice's last event.
  virtual std::string End(const AnswerUsage& usage) = 0;
  // Instead of the rest.
  virtual std::string Fail(const ApiError& error) = 0;
};

// The framing of server-sent events; without a name where `event` is "".
std::string ServerSentEvent(std::string_view event, std::string_view data);

}  // namespace tandem
