#include "gateway/ingress/grpc/generate_call.h"

#include <algorithm>
#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Of one message, so that an echoed prompt with its log-probabilities stays under what clients
// take.
constexpr std::size_t kTokensPerMessage = 1024;
constexpr std::string_view kEndpoint = "grpc.Generate";

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string BytesOf(const Tokenizer& tokenizer, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= tokenizer.size()) return "";
  return tokenizer.BytesOf(token);
}

void FillTokenInfo(const Tokenizer& tokenizer, const ScoredToken& token, v1::TokenInfo& info) {
  info.set_token(token.token);
  info.set_piece(BytesOf(tokenizer, token.token));
  info.set_has_logprob(token.logprob.has_value());
  info.set_logprob(token.logprob.value_or(0.0f));
  for (const TokenLogprob& other : token.top) {
    v1::Alternative& alternative = *info.add_top();
    alternative.set_token(other.token);
    alternative.set_piece(BytesOf(tokenizer, other.token));
    alternative.set_logprob(other.logprob);
  }
}

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

std::vector<std::string> TraceParentsOf(const grpc::CallbackServerContext& context) {
  std::vector<std::string> parents;
  const auto [begin, end] = context.client_metadata().equal_range("traceparent");
  for (auto field = begin; field != end; ++field) {
    parents.emplace_back(field->second.data(), field->second.size());
  }
  return parents;
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

absl::StatusOr<AnswerSpec> PlanGenerate(const Serving& serving, const v1::GenerateRequest& from) {
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, ReadGenerateRequest(from));
  TANDEM_ASSIGN_OR_RETURN(std::vector<AnswerSpec> answers, PlanAnswers(serving, request));
  AnswerSpec& spec = answers.front();
  if (spec.echo) {
    TANDEM_RETURN_IF_ERROR(CheckEchoBytes(static_cast<std::int64_t>(spec.request.prompt.size()),
                                          spec.request.sampling.num_logprobs));
  }
  return std::move(spec);
}

GenerateCall::GenerateCall(CallHost& host, grpc::CallbackServerContext* context)
    : OneRequestCall(host, context) {
  core_->call = this;
}

GenerateCall* GenerateCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new GenerateCall(host, context);
  absl::StatusOr<KeyUse> key = host.Admit(*context);
  if (key.ok()) {
    call->key_ = *std::move(key);
    call->trace_ = GenerationTrace::Begin(host.backend.spans, TraceParentsOf(*context), kEndpoint);
    call->Receive();
  } else {
    call->End(key.status());
  }
  return call;
}

// Until the request is planned, nothing finishes the call, so it lives.
void GenerateCall::Received(const absl::Status& status) {
  if (!status.ok()) return End(status);
  if (!host().Work([this] { Plan(); })) End(absl::UnavailableError("too many requests at a time"));
}

void GenerateCall::Plan() {
  const auto plan = [this]() -> absl::StatusOr<AnswerSpec> {
    TANDEM_ASSIGN_OR_RETURN(serving_, host().backend.serving->Get());
    return PlanGenerate(*serving_, request());
  };
  absl::StatusOr<AnswerSpec> spec = plan();
  absl::Status status = spec.status();
  if (status.ok()) {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    if (!ending_) status = BeginLocked(*std::move(spec));
  }
  End(status);
}

absl::Status GenerateCall::BeginLocked(AnswerSpec spec) {
  id_ = RandomId("gen-");
  spec.request.id = id_;
  if (trace_ != nullptr) spec.request.trace_parent = trace_->parent();
  want_logprobs_ = request().has_logprobs();
  TANDEM_ASSIGN_OR_RETURN(
      answer_,
      RunningAnswer::Create(*serving_->engine, serving_->model.tokenizer, std::move(spec)));
  const std::weak_ptr<Core> weak = core_;
  return answer_->Start([weak, &host = host()] {
    host.post([weak] {
      const std::shared_ptr<Core> core = weak.lock();
      if (core == nullptr) return;
      Action action = Action::kNone;
      GenerateCall* call = nullptr;
      {
        const std::lock_guard<std::mutex> lock(core->mutex);
        call = core->call;
        if (call != nullptr) action = call->NextLocked();
      }
      // A call with an action under way is not deleted: gRPC waits for the action's end.
      if (call != nullptr && action != Action::kNone) call->Perform(action);
    });
  });
}

// The request is as good as planned; an error ends the call.
void GenerateCall::End(const absl::Status& status) {
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    planning_ = false;
    if (!status.ok()) EndLocked(status);
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::Pump() {
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::EndLocked(const absl::Status& status) {
  if (ending_) return;
  ending_ = true;
  end_status_ = status;
  IngressMetrics& metrics = *host().backend.metrics;
  const std::string_view code = GrpcCodeName(ToGrpcStatus(status).error_code());
  metrics.CountRequest(kEndpoint, code);
  if (answer_ != nullptr) {
    metrics.ObserveDuration(kEndpoint, serving_->model.id, status.ok() ? "" : code,
                            SecondsSince(begin_));
    metrics.CountTokens(answer_->prompt_tokens(), answer_->completion_tokens());
    key_.Charge(answer_->prompt_tokens() + answer_->completion_tokens());
    if (status.ok() && answer_->completion_tokens() > 1) {
      metrics.ObserveOutputTokens(kEndpoint, serving_->model.id, SecondsSince(first_token_),
                                  answer_->completion_tokens() - 1);
    }
  }
  if (trace_ != nullptr) {
    GenerationTrace::Outcome outcome{.error = status.ok() ? "" : code};
    if (answer_ != nullptr) {
      outcome.id = id_;
      outcome.model = serving_->model.id;
      outcome.prompt_tokens = answer_->prompt_tokens();
      outcome.completion_tokens = answer_->completion_tokens();
    }
    trace_->End(outcome);
  }
  answer_.reset();  // cancels what runs
}

// A part of the update; whether it was the last one.
bool GenerateCall::FillLocked() {
  RunningAnswer::Update& update = *update_;
  response_.Clear();
  response_.set_id(id_);
  if (sent_ == 0) {
    response_.set_text(std::move(update.text));
    for (ToolCallDelta& delta : update.tool_calls) {
      v1::ToolCall& call = *response_.add_tool_calls();
      call.set_index(delta.index);
      call.set_id(std::move(delta.id));
      call.set_name(std::move(delta.name));
      call.set_arguments(std::move(delta.arguments));
    }
  }
  const std::size_t end = std::min(update.tokens.size(), sent_ + kTokensPerMessage);
  for (; sent_ < end; ++sent_) {
    const ScoredToken& token = update.tokens[sent_];
    response_.add_tokens(token.token);
    if (want_logprobs_) {
      FillTokenInfo(*serving_->model.tokenizer, token, *response_.add_logprobs());
    }
  }
  if (end < update.tokens.size()) return false;
  if (!update.finished) return true;
  const std::string_view stop = update.calls_complete ? "tool_calls" : "stop";
  response_.set_finish_reason(std::string(update.reason == FinishReason::kStop ? stop : "length"));
  response_.mutable_usage()->set_prompt_tokens(answer_->prompt_tokens());
  response_.mutable_usage()->set_completion_tokens(answer_->completion_tokens());
  return true;
}

GenerateCall::Action GenerateCall::NextLocked() {
  if (planning_ || finish_called_) return Action::kNone;
  if (writing_) {
    // Nobody reads, and what waits has reached its bound.
    if (answer_ == nullptr || !answer_->overflowed()) return Action::kNone;
    EndLocked(absl::ResourceExhaustedError("the answer was read too slowly and was cut off"));
    return Action::kCancel;
  }
  if (ending_) {
    finish_called_ = true;
    return Action::kFinish;
  }
  if (answer_ == nullptr) return Action::kNone;
  if (!update_.has_value()) {
    RunningAnswer::Update update = answer_->Take();
    if (update.begun && !std::exchange(begun_, true)) {
      first_token_ = std::chrono::steady_clock::now();
      if (trace_ != nullptr) trace_->FirstToken();
      host().backend.metrics->ObserveFirstToken(kEndpoint, serving_->model.id,
                                                SecondsSince(begin_));
    }
    if (!update.status.ok()) {
      EndLocked(update.status);
      finish_called_ = true;
      return Action::kFinish;
    }
    const bool nothing = update.text.empty() && update.tokens.empty() && update.tool_calls.empty();
    if (!update.finished && nothing) return Action::kNone;
    update_ = std::move(update);
    sent_ = 0;
  }
  const bool finished = update_->finished;
  const bool whole = FillLocked();
  if (whole) update_.reset();
  if (whole && finished) {
    EndLocked(absl::OkStatus());
    finish_called_ = true;
    return Action::kWriteLast;
  }
  writing_ = true;
  return Action::kWrite;
}

// Outside the lock: gRPC may call back at once.
void GenerateCall::Perform(Action action) {
  switch (action) {
    case Action::kNone:
      return;
    case Action::kCancel:
      return timer().Cancel();
    case Action::kWrite:
      timer().Set(host().options.write_timeout);
      return StartWrite(&response_);
    case Action::kWriteLast:
      timer().Set(host().options.write_timeout);
      return StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
    case Action::kFinish:
      return Finish(ToGrpcStatus(end_status_));
  }
}

void GenerateCall::OnWriteDone(bool ok) {
  timer().Clear();
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the client has left"));
  }
  Pump();
}

void GenerateCall::OnCancel() {
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    EndLocked(absl::CancelledError("the call was cancelled"));
  }
  Pump();
}

void GenerateCall::OnDone() {
  const std::shared_ptr<Core> core = core_;
  {
    const std::lock_guard<std::mutex> lock(core->mutex);
    core->call = nullptr;
  }
  OneRequestCall::OnDone();
}

}  // namespace tandem
