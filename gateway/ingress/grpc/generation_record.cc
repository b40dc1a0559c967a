#include "gateway/ingress/grpc/generation_record.h"

#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<std::string> TraceParentsOf(const grpc::CallbackServerContext& context) {
  std::vector<std::string> parents;
  const auto [begin, end] = context.client_metadata().equal_range("traceparent");
  for (auto field = begin; field != end; ++field) {
    parents.emplace_back(field->second.data(), field->second.size());
  }
  return parents;
}

}  // namespace

absl::Status GenerationRecord::Admit(const grpc::CallbackServerContext& context) {
  TANDEM_ASSIGN_OR_RETURN(key_, host_.Admit(context));
  trace_ = GenerationTrace::Begin(host_.backend.spans, TraceParentsOf(context), endpoint_);
  return absl::OkStatus();
}

void GenerationRecord::Name(std::string_view id_prefix, std::string_view model,
                            GenerationRequest* request) {
  id_ = RandomId(id_prefix);
  model_ = std::string(model);
  request->id = id_;
  if (trace_ != nullptr) request->trace_parent = trace_->parent();
}

void GenerationRecord::FirstToken() {
  first_token_ = std::chrono::steady_clock::now();
  if (trace_ != nullptr) trace_->FirstToken();
  host_.backend.metrics->ObserveFirstToken(endpoint_, model_, SecondsSince(begin_));
}

void GenerationRecord::End(const absl::Status& status, const RunningAnswer* answer) {
  GenerationTrace::Outcome outcome;
  if (!status.ok()) outcome.error = GrpcCodeName(ToGrpcStatus(status).error_code());
  if (answer != nullptr) {
    outcome.id = id_;
    outcome.model = model_;
    outcome.prompt_tokens = answer->prompt_tokens();
    outcome.completion_tokens = answer->completion_tokens();
    IngressMetrics& metrics = *host_.backend.metrics;
    metrics.ObserveDuration(endpoint_, outcome.model, outcome.error, SecondsSince(begin_));
    metrics.CountTokens(outcome.prompt_tokens, outcome.completion_tokens);
    key_.Charge(outcome.prompt_tokens + outcome.completion_tokens);
    if (status.ok() && outcome.completion_tokens > 1) {
      metrics.ObserveOutputTokens(endpoint_, outcome.model, SecondsSince(first_token_),
                                  outcome.completion_tokens - 1);
    }
  }
  if (trace_ != nullptr) trace_->End(outcome);
}

}  // namespace tandem
