#include "gateway/ingress/grpc/request_reader.h"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

absl::Status ReadOptionsOf(const v1::GenerateRequest& from, InferenceRequest& request) {
  SamplingWishes wishes;
  if (from.has_temperature()) wishes.temperature = from.temperature();
  if (from.has_top_p()) wishes.top_p = from.top_p();
  if (from.has_top_k()) wishes.top_k = from.top_k();
  if (from.has_min_p()) wishes.min_p = from.min_p();
  wishes.frequency_penalty = from.frequency_penalty();
  wishes.presence_penalty = from.presence_penalty();
  wishes.logit_bias.assign(from.logit_bias().begin(), from.logit_bias().end());
  TANDEM_ASSIGN_OR_RETURN(request.sampling, CheckedSampling(wishes));
  request.has_seed = from.has_seed();
  request.sampling.seed = from.seed();
  if (from.has_logprobs()) {
    TANDEM_ASSIGN_OR_RETURN(request.sampling.num_logprobs,
                            CheckedLogprobs("logprobs", from.logprobs()));
  }
  // -1 is another spelling of "no limit".
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t max_tokens,
                          CheckedMaxTokens("max_tokens", from.max_tokens(), -1));
  if (max_tokens > 0) request.max_tokens = max_tokens;
  request.stops.assign(from.stop().begin(), from.stop().end());
  request.echo = from.echo();
  request.ignore_eos = from.ignore_eos();
  return CheckStops(request.stops);
}

absl::StatusOr<Role> ReadRole(int index, const std::string& name) {
  for (const auto& [role, known] :
       {std::pair(Role::kSystem, "system"), std::pair(Role::kDeveloper, "developer"),
        std::pair(Role::kUser, "user"), std::pair(Role::kAssistant, "assistant"),
        std::pair(Role::kTool, "tool")}) {
    if (name == known) return role;
  }
  const std::string path = Cat("chat.messages[", index, "].role");
  return InvalidField(
      path,
      Cat("'", path, "': expected system, developer, user, assistant or tool, found '", name, "'"));
}

absl::Status ReadToolsOf(int index, const v1::ChatMessage& from, Message& message) {
  const std::string path = Cat("chat.messages[", index, "].tool_calls");
  if (from.tool_calls_size() > 0 && message.role != Role::kAssistant)
    return InvalidField(path, Cat("'", path, "': only an assistant calls tools"));
  for (const v1::ToolCall& call : from.tool_calls()) {
    TANDEM_RETURN_IF_ERROR(CheckToolName(path, call.name()));
    message.tool_calls.push_back(
        {.id = call.id(), .name = call.name(), .arguments = call.arguments()});
  }
  message.tool_call_id = from.tool_call_id();
  message.tool_name = from.tool_name();
  return absl::OkStatus();
}

absl::StatusOr<ChatPrompt> ReadChat(const v1::ChatPrompt& from) {
  ChatPrompt chat;
  for (int i = 0; i < from.messages_size(); ++i) {
    Message message;
    TANDEM_ASSIGN_OR_RETURN(message.role, ReadRole(i, from.messages(i).role()));
    message.parts.push_back(from.messages(i).content());
    TANDEM_RETURN_IF_ERROR(ReadToolsOf(i, from.messages(i), message));
    chat.messages.push_back(std::move(message));
  }
  if (chat.messages.empty()) {
    return InvalidField("chat.messages", "'chat.messages': expected at least one message");
  }
  return chat;
}

void ReadFormat(const v1::GenerateRequest& from, ResponseFormat& format) {
  const auto set = [&format](ResponseFormat::Kind kind, std::string_view field,
                             std::string_view definition) {
    format.kind = kind;
    format.field = std::string(field);
    format.definition = std::string(definition);
    format.strict = true;
  };
  switch (from.format_case()) {
    case v1::GenerateRequest::kJsonObject:
      if (from.json_object()) set(ResponseFormat::Kind::kJsonObject, "json_object", "");
      return;
    case v1::GenerateRequest::kJsonSchema:
      return set(ResponseFormat::Kind::kJsonSchema, "json_schema", from.json_schema());
    case v1::GenerateRequest::kRegex:
      return set(ResponseFormat::Kind::kRegex, "regex", from.regex());
    case v1::GenerateRequest::kGrammar:
      return set(ResponseFormat::Kind::kGrammar, "grammar", from.grammar());
    case v1::GenerateRequest::FORMAT_NOT_SET:
      return;
  }
}

absl::Status ReadTools(const v1::GenerateRequest& from, InferenceRequest& request) {
  if (from.tools_size() > 0 && !from.has_chat())
    return InvalidField("tools", "'tools': only in a chat");
  if (static_cast<std::size_t>(from.tools_size()) > kMaxTools) {
    return InvalidField(
        "tools", Cat("'tools': expected at most ", kMaxTools, " tools, found ", from.tools_size()));
  }
  for (int i = 0; i < from.tools_size(); ++i) {
    const v1::Tool& tool = from.tools(i);
    const std::string path = Cat("tools[", i, "]");
    TANDEM_RETURN_IF_ERROR(CheckToolName(Cat(path, ".name"), tool.name()));
    if (!tool.parameters().empty() && !nlohmann::json::accept(tool.parameters())) {
      return InvalidField(Cat(path, ".parameters"),
                          Cat("'", path, ".parameters': expected JSON, found something else"));
    }
    request.tools.push_back({.name = tool.name(),
                             .description = tool.description(),
                             .parameters = tool.parameters(),
                             .strict = tool.strict(),
                             .field = Cat(path, ".parameters")});
  }
  ToolChoice& choice = request.tool_choice;
  if (from.tool_choice() == "none") {
    choice.mode = ToolChoice::Mode::kNone;
  } else if (from.tool_choice() == "required") {
    choice.mode = ToolChoice::Mode::kRequired;
  } else if (!from.tool_choice().empty() && from.tool_choice() != "auto") {
    choice = {.mode = ToolChoice::Mode::kNamed, .name = from.tool_choice()};
  }
  if (from.has_parallel_tool_calls()) request.parallel_tool_calls = from.parallel_tool_calls();
  return CheckTools(request);
}

EmbeddingWish WishOf(const v1::EmbedRequest& from) {
  EmbeddingWish wish;
  wish.unit_length = from.unit_length();
  if (from.dimensions() != 0) wish.dimensions = from.dimensions();
  return wish;
}

}  // namespace

absl::StatusOr<InferenceRequest> ReadGenerateRequest(const v1::GenerateRequest& from) {
  InferenceRequest request;
  request.model = from.model();
  TANDEM_RETURN_IF_ERROR(ReadOptionsOf(from, request));
  ReadFormat(from, request.response_format);
  TANDEM_RETURN_IF_ERROR(ReadTools(from, request));
  switch (from.prompt_case()) {
    case v1::GenerateRequest::kChat: {
      request.prompt_field = "chat";
      TANDEM_ASSIGN_OR_RETURN(ChatPrompt chat, ReadChat(from.chat()));
      request.prompts.emplace_back(std::move(chat));
      break;
    }
    case v1::GenerateRequest::kText:
      request.prompt_field = "text";
      request.prompts.emplace_back(from.text());
      break;
    case v1::GenerateRequest::kTokens:
      request.prompt_field = "tokens";
      request.prompts.emplace_back(
          std::vector<std::int32_t>(from.tokens().ids().begin(), from.tokens().ids().end()));
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return InvalidField("prompt", "'prompt': expected chat, text or tokens, found nothing");
  }
  return request;
}

absl::StatusOr<InferenceRequest> ReadEmbedRequest(const v1::EmbedRequest& from) {
  InferenceRequest request;
  request.model = from.model();
  request.embed = WishOf(from);
  switch (from.prompt_case()) {
    case v1::EmbedRequest::kText:
      request.prompt_field = "text";
      request.prompts.emplace_back(from.text());
      break;
    case v1::EmbedRequest::kTokens:
      request.prompt_field = "tokens";
      request.prompts.emplace_back(
          std::vector<std::int32_t>(from.tokens().ids().begin(), from.tokens().ids().end()));
      break;
    case v1::EmbedRequest::PROMPT_NOT_SET:
      return InvalidField("prompt", "'prompt': expected text or tokens, found nothing");
  }
  TANDEM_RETURN_IF_ERROR(CheckEmbeddingPrompts(request.prompt_field, request.prompts));
  return request;
}

}  // namespace tandem
