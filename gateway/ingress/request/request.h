#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "lib/sample/sampler.h"

namespace tandem {

// One request as every door (doors/, grpc/) maps it: what was asked for, free of any API's
// spelling. Readers check what can be checked without the model; answer/answer_plan.h does the
// rest.

// Prompts times n that any limit allows.
inline constexpr std::int32_t kMaxChoices = 1024;

enum class Role : std::uint8_t { kSystem, kDeveloper, kUser, kAssistant, kTool };

// A call that the assistant made.
struct ToolCall {
  std::string id;
  std::string name;
  // JSON text of an object.
  std::string arguments;

  bool operator==(const ToolCall&) const = default;
};

struct Message {
  Role role = Role::kUser;
  // Texts, UTF-8; none where an assistant only called tools.
  std::vector<std::string> parts = {};
  // Of an assistant.
  std::vector<ToolCall> tool_calls = {};
  // Of a tool: the call that it answers, and the tool's name where the API gives it.
  std::string tool_call_id = {};
  std::string tool_name = {};

  bool operator==(const Message&) const = default;
};

// A function that the assistant may call.
struct Tool {
  std::string name;
  std::string description;
  // JSON Schema of the arguments, as JSON text; "" where it takes none.
  std::string parameters;
  bool strict = false;
  // What the API calls the schema, for errors.
  std::string field = "tools";
};

struct ToolChoice {
  enum class Mode : std::uint8_t { kAuto, kNone, kRequired, kNamed };
  Mode mode = Mode::kAuto;
  // Of kNamed.
  std::string name;
};

// The form that the answer's text must have.
struct ResponseFormat {
  enum class Kind : std::uint8_t { kText, kJsonObject, kJsonSchema, kRegex, kGrammar };
  Kind kind = Kind::kText;
  // JSON Schema (JSON text), regular expression or EBNF grammar.
  std::string definition;
  std::string name;
  bool strict = false;
  // What the API calls it, for errors.
  std::string field = "response_format";
};

struct ChatPrompt {
  // At least one; in any order of roles (conversation.h).
  std::vector<Message> messages;
  // The assistant answers in a turn of its own.
  bool add_generation_prompt = true;
  // The last message is an assistant's, and the answer goes on with it; not with
  // add_generation_prompt.
  bool continue_final_message = false;

  bool operator==(const ChatPrompt&) const = default;
};

// A chat; a text, with special tokens in it being special; or token ids as they are.
using Prompt = std::variant<ChatPrompt, std::string, std::vector<std::int32_t>>;

// Embeddings instead of answers.
struct EmbeddingWish {
  // So many values, the first: fewer than the model gives where it is an encoder.
  std::optional<std::int64_t> dimensions;
  // Written as base64 of float32 values, little endian.
  bool base64 = false;
  // Scaled to length 1.
  bool unit_length = true;
};
// Prompts of one request that wants embeddings.
inline constexpr std::size_t kMaxEmbeddings = 2048;

struct InferenceRequest {
  // "": whichever is served.
  std::string model;
  // At least one; one where it is a chat.
  std::vector<Prompt> prompts;
  // What the API calls the prompt, for errors: "messages", "prompt", "input".
  std::string prompt_field = "messages";

  std::vector<Tool> tools;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  // Of the calls in the answer.
  std::string call_id_prefix = "call_";
  ResponseFormat response_format;

  // `num_logprobs` >= 0: log-probabilities are wanted. `seed` is set only when has_seed.
  SamplingParams sampling;
  bool has_seed = false;
  // Absent: `default_max_tokens`, and without that up to the context's end.
  std::optional<std::int32_t> max_tokens;
  std::optional<std::int32_t> default_max_tokens;
  // Choices of each prompt, one seed apart.
  std::int32_t n = 1;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  // No tokens are wanted, but the prompts' embeddings: the mean of their final hidden states.
  // Special tokens in a text are text then.
  std::optional<EmbeddingWish> embed;
  // The prompt comes first, with log-probabilities where those are wanted.
  bool echo = false;

  bool stream = false;
  // Of a stream: a last event with the usage.
  bool include_usage = false;
  // Log-probabilities name tokens "token_id:N".
  bool tokens_as_ids = false;

  // Fields that nobody knows and that were left out on purpose (ReadOptions).
  std::vector<std::string> ignored_fields;
};

// How readers read.
struct ReadOptions {
  // An unknown field goes into `ignored_fields`; else it is refused.
  bool ignore_unknown = false;
  // Levels that a body may nest.
  std::int32_t max_depth = 32;
};

// What one request may ask for, whichever door it comes through.
struct RequestLimits {
  std::int32_t max_stops = 4;
  // Prompts times n; embeddings have a bound of their own.
  std::int32_t max_choices = 128;
  // Bytes of all tools' parameters and the response format's definition together.
  std::uint64_t max_schema = std::uint64_t{256} << 10;
};
// InvalidArgument with the field's name.
absl::Status CheckLimits(const InferenceRequest& request, const RequestLimits& limits);

}  // namespace tandem
