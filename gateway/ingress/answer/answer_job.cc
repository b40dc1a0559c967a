#include "gateway/ingress/answer/answer_job.h"

#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr int kClientClosed = 499;  // what proxies log for a client that left

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

HttpReply ErrorReplyFor(const absl::Status& status, ErrorWriter error_body) {
  const ApiError error = ToApiError(status);
  HttpReply reply{.status = error.http_status,
                  .content_type = "application/json",
                  .headers = {},
                  .body = error_body(error)};
  if (error.http_status == 429 || error.http_status == 503) {
    reply.headers.emplace_back("Retry-After", Cat(RetryAfterSeconds(status)));
  }
  if (error.http_status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

AnswerJob::AnswerJob(AnswerJobSpec spec, std::function<void()> wake)
    : spec_(std::move(spec)), wake_(std::move(wake)), begin_(std::chrono::steady_clock::now()) {}

AnswerJob::~AnswerJob() { Record(kClientClosed); }

absl::StatusOr<std::unique_ptr<AnswerJob>> AnswerJob::Start(AnswerJobSpec spec,
                                                            std::function<void()> wake) {
  std::unique_ptr<AnswerJob> job(new AnswerJob(std::move(spec), std::move(wake)));
  job->recorded_ = true;  // until it runs, a failure is the caller's to record
  std::int64_t echoed = 0;
  for (const AnswerSpec& prompt : job->spec_.prompts) {
    const auto tokens = static_cast<std::int64_t>(prompt.request.prompt.size());
    job->prompt_tokens_ += tokens;
    if (prompt.echo) echoed += tokens * job->spec_.n;
  }
  TANDEM_RETURN_IF_ERROR(CheckEchoBytes(echoed, job->spec_.num_logprobs));
  job->choices_.resize(job->spec_.prompts.size() * static_cast<std::size_t>(job->spec_.n));
  for (std::size_t i = 0; i < job->choices_.size(); ++i) {
    job->choices_[i].event.index = static_cast<int>(i);
  }
  TANDEM_RETURN_IF_ERROR(job->StartChoices());
  job->recorded_ = false;
  return job;
}

// Made when its turn comes: the last choice of a prompt takes the prompt's memory over.
absl::Status AnswerJob::CreateAnswer(std::size_t index) {
  const auto n = static_cast<std::size_t>(spec_.n);
  AnswerSpec& prompt = spec_.prompts[index / n];
  AnswerSpec spec = (index + 1) % n == 0 ? std::move(prompt) : prompt;
  spec.request.sampling.seed += index % n;
  spec.request.id = Cat(spec_.id, "/", index);
  if (spec_.trace != nullptr) spec.request.trace_parent = spec_.trace->parent();
  TANDEM_ASSIGN_OR_RETURN(choices_[index].answer,
                          RunningAnswer::Create(*spec_.serving->engine,
                                                spec_.serving->model.tokenizer, std::move(spec)));
  return absl::OkStatus();
}

// A full queue is an error only while nothing of ours runs: else the rest waits for its turn.
absl::Status AnswerJob::StartChoices() {
  while (next_to_start_ < choices_.size() && running_ < kInFlight) {
    if (choices_[next_to_start_].answer == nullptr) {
      TANDEM_RETURN_IF_ERROR(CreateAnswer(next_to_start_));
    }
    const absl::Status status = choices_[next_to_start_].answer->Start(wake_);
    if (absl::IsResourceExhausted(status) && running_ > 0) return absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(status);
    ++next_to_start_;
    ++running_;
  }
  return absl::OkStatus();
}

std::string ServerSentEvent(std::string_view event, std::string_view data) {
  if (event.empty()) return Cat("data: ", data, "\n\n");
  return Cat("event: ", event, "\ndata: ", data, "\n\n");
}

void AnswerJob::AddToStream(const AnswerEvent& event, std::string& bytes) {
  if (!std::exchange(begun_, true)) {
    AnswerUsage prompt = Usage();
    prompt.completion_tokens = 0;
    bytes.append(spec_.format->Begin(prompt));
  }
  bytes.append(spec_.format->Next(event));
}

void AnswerJob::TakeUpdate(Choice& choice, std::string& bytes) {
  RunningAnswer::Update update = choice.answer->Take();
  if (!update.begun && !update.finished) return;
  if (!choice.opened && update.embedding.empty()) ObserveFirstToken(choice);
  choice.completion_tokens = choice.answer->completion_tokens();
  if (update.finished) {
    choice.answer.reset();
    choice.finished = true;
    --running_;
    ++finished_;
    if (!update.status.ok()) {
      error_ = std::move(update.status);
      return;
    }
    ObserveEnd(choice);
  }
  AnswerEvent& event = choice.event;
  if (update.finished) {
    const AnswerEnd stop = update.calls_complete ? AnswerEnd::kToolCalls : AnswerEnd::kStop;
    event.end = update.reason == FinishReason::kStop ? stop : AnswerEnd::kLength;
    event.stop = std::move(update.stop);
  }
  event.first = !std::exchange(choice.opened, true);
  // They have no place in what the APIs say of calls.
  if (update.called) update.tokens.clear();
  if (!spec_.stream) return Gather(event, std::move(update));
  event.text = std::move(update.text);
  event.tokens = std::move(update.tokens);
  event.tool_calls = std::move(update.tool_calls);
  const bool nothing = event.text.empty() && event.tokens.empty() && event.tool_calls.empty() &&
                       !event.end.has_value();
  if (nothing && !event.first) return;
  AddToStream(event, bytes);
}

void AnswerJob::Gather(AnswerEvent& event, RunningAnswer::Update update) {
  event.text.append(update.text);
  if (!update.embedding.empty()) event.embedding = std::move(update.embedding);
  gathered_bytes_ += static_cast<std::int64_t>(update.text.size());
  if (spec_.num_logprobs >= 0) {
    gathered_bytes_ +=
        static_cast<std::int64_t>(update.tokens.size()) * ScoredTokenBytes(spec_.num_logprobs);
    std::move(update.tokens.begin(), update.tokens.end(), std::back_inserter(event.tokens));
  }
  for (ToolCallDelta& delta : update.tool_calls) {
    gathered_bytes_ += static_cast<std::int64_t>(delta.name.size() + delta.arguments.size());
    if (!delta.id.empty()) {
      event.tool_calls.push_back(std::move(delta));
    } else {
      event.tool_calls.back().arguments.append(delta.arguments);
    }
  }
  if (gathered_bytes_ > kMaxAnswerBytes) error_ = AnswerTooLong();
}

AnswerUsage AnswerJob::Usage() const {
  AnswerUsage usage{.prompt_tokens = prompt_tokens_, .cached_tokens = 0, .completion_tokens = 0};
  for (const Choice& choice : choices_) usage.completion_tokens += choice.completion_tokens;
  return usage;
}

void AnswerJob::ObserveFirstToken(Choice& choice) {
  choice.begun = std::chrono::steady_clock::now();
  if (spec_.trace != nullptr) spec_.trace->FirstToken();
  if (spec_.metrics == nullptr) return;
  spec_.metrics->ObserveFirstToken(spec_.endpoint, spec_.serving->model.id, SecondsSince(begin_));
}

void AnswerJob::ObserveEnd(const Choice& choice) const {
  if (spec_.metrics == nullptr || choice.completion_tokens < 2) return;
  spec_.metrics->ObserveOutputTokens(spec_.endpoint, spec_.serving->model.id,
                                     SecondsSince(choice.begun), choice.completion_tokens - 1);
}

void AnswerJob::Record(int http_status) {
  if (std::exchange(recorded_, true)) return;
  const AnswerUsage usage = Usage();
  const std::string error = http_status < 400 ? "" : std::to_string(http_status);
  if (spec_.trace != nullptr) {
    spec_.trace->End({.id = spec_.id,
                      .model = spec_.serving->model.id,
                      .prompt_tokens = usage.prompt_tokens,
                      .completion_tokens = usage.completion_tokens,
                      .error = error});
  }
  if (spec_.metrics == nullptr) return;
  spec_.metrics->CountRequest(spec_.endpoint, http_status, RejectionReason(error_));
  spec_.metrics->CountTokens(usage.prompt_tokens, usage.completion_tokens);
  spec_.key.Charge(usage.prompt_tokens + usage.completion_tokens);
  spec_.metrics->ObserveDuration(spec_.endpoint, spec_.serving->model.id, error,
                                 SecondsSince(begin_));
}

HttpJob::Progress AnswerJob::Fail(Progress progress) {
  // Cancels what runs.
  choices_.clear();
  progress.done = true;
  if (head_sent_ || progress.head.has_value()) {
    progress.bytes.append(spec_.format->Fail(ToApiError(error_)));
    return progress;
  }
  progress.head = ErrorReplyFor(error_, spec_.error_body);
  progress.head->headers.insert(progress.head->headers.end(), spec_.headers.begin(),
                                spec_.headers.end());
  progress.bytes.clear();
  return progress;
}

HttpJob::Progress AnswerJob::Finish(Progress progress) {
  std::vector<AnswerEvent> choices;
  for (Choice& choice : choices_) choices.push_back(std::move(choice.event));
  progress.head.emplace();
  progress.head->headers = spec_.headers;
  progress.head->body = spec_.format->Whole(choices, Usage());
  Record(200);
  return progress;
}

HttpJob::Progress AnswerJob::Poll() {
  Progress progress;
  for (std::size_t i = 0; i < next_to_start_ && error_.ok(); ++i) {
    if (!choices_[i].finished) TakeUpdate(choices_[i], progress.bytes);
  }
  if (error_.ok()) error_ = StartChoices();
  if (!error_.ok()) {
    Record(ToApiError(error_).http_status);
    return Fail(std::move(progress));
  }
  progress.done = finished_ == choices_.size();
  if (!spec_.stream) return progress.done ? Finish(std::move(progress)) : std::move(progress);
  if (!head_sent_ && (progress.done || !progress.bytes.empty())) {
    head_sent_ = true;
    progress.head.emplace();
    progress.head->content_type = std::string(spec_.format->stream_type());
    progress.head->headers = spec_.headers;
    progress.head->headers.emplace_back("Cache-Control", "no-cache");
    progress.head->headers.emplace_back("X-Accel-Buffering", "no");
  }
  if (progress.done) {
    progress.bytes.append(spec_.format->End(Usage()));
    Record(200);
  }
  return progress;
}

void AnswerJob::Abort(const absl::Status& status) {
  if (error_.ok()) error_ = status;
}

}  // namespace tandem
