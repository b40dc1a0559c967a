#include "gateway/ingress/doors/door.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "gateway/ingress/answer/answer_job.h"
#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/answer/generation_trace.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

absl::StatusOr<std::unique_ptr<HttpJob>> StartJob(const DoorServices& services, DoorCall& call,
                                                  const AnswerPlan& plan,
                                                  absl::StatusOr<InferenceRequest> read,
                                                  std::shared_ptr<GenerationTrace> trace) {
  AnswerJobSpec job;
  TANDEM_ASSIGN_OR_RETURN(job.key, services.keys.Admit(call.request.authorization));
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Serving> serving, services.serving.Get());
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, std::move(read));
  TANDEM_ASSIGN_OR_RETURN(job.prompts, PlanAnswers(*serving, request));
  job.id = RandomId(plan.id_prefix);
  job.n = request.n;
  job.num_logprobs = request.sampling.num_logprobs;
  job.stream = request.stream;
  job.endpoint = std::string(plan.endpoint);
  job.error_body = plan.errors;
  job.metrics = &services.metrics;
  job.trace = std::move(trace);
  if (!request.ignored_fields.empty()) {
    job.headers.emplace_back("Warning", Cat("299 tandem \"ignored unknown request fields: ",
                                            absl::StrJoin(request.ignored_fields, ", "), "\""));
  }
  job.format = plan.format(AnswerInfo{.id = job.id,
                                      .created = absl::ToUnixSeconds(absl::Now()),
                                      .model = serving->model.id,
                                      .tokenizer = serving->model.tokenizer,
                                      .num_logprobs = request.sampling.num_logprobs,
                                      .tokens_as_ids = request.tokens_as_ids,
                                      .include_usage = request.include_usage},
                           request);
  job.serving = std::move(serving);
  return AnswerJob::Start(std::move(job), std::move(call.wake));
}

}  // namespace

HttpResult JsonReply(std::string body) {
  return {.reply = HttpReply{.status = 200,
                             .content_type = "application/json",
                             .headers = {},
                             .body = std::move(body)},
          .job = nullptr};
}

HttpResult ErrorResult(const DoorServices& services, std::string_view endpoint, ErrorWriter errors,
                       const absl::Status& status) {
  HttpReply reply = ErrorReplyFor(status, errors);
  services.metrics.CountRequest(endpoint, reply.status, RejectionReason(status));
  return {.reply = std::move(reply), .job = nullptr};
}

HttpResult StartAnswer(const DoorServices& services, DoorCall& call, const AnswerPlan& plan,
                       absl::StatusOr<InferenceRequest> request) {
  const std::shared_ptr<GenerationTrace> trace =
      GenerationTrace::Begin(services.spans, call.request.traceparents, plan.endpoint);
  auto job = StartJob(services, call, plan, std::move(request), trace);
  if (job.ok()) return {.reply = std::nullopt, .job = *std::move(job)};
  HttpResult refusal = ErrorResult(services, plan.endpoint, plan.errors, job.status());
  if (trace != nullptr) trace->End({.error = std::to_string(refusal.reply->status)});
  return refusal;
}

}  // namespace tandem
