#include "gateway/ingress/answer/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lib/telemetry/metrics_page.h"

namespace tandem {
namespace {

// Those of the semantic conventions.
const prometheus::Histogram::BucketBoundaries kDuration = {
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84};
const prometheus::Histogram::BucketBoundaries kFirstToken = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30};
const prometheus::Histogram::BucketBoundaries kOutputToken = {
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5};

// Why requests are refused. 429 may be a full queue, a limit of the key, or a reader that was too
// slow: the last two say so themselves.
constexpr std::array<std::string_view, 7> kReasons = {
    "denied", "invalid", "key_limit", "queue_full", "slow_reader", "too_large", "unavailable"};

struct Rejection {
  std::string_view status;
  std::string_view reason;
};
constexpr std::array<Rejection, 17> kRejections = {{
    {"400", "invalid"},
    {"401", "denied"},
    {"403", "denied"},
    {"404", "invalid"},
    {"405", "invalid"},
    {"413", "too_large"},
    {"415", "invalid"},
    {"429", "queue_full"},
    {"431", "too_large"},
    {"501", "invalid"},
    {"503", "unavailable"},
    {"INVALID_ARGUMENT", "invalid"},
    {"NOT_FOUND", "invalid"},
    {"UNAUTHENTICATED", "denied"},
    {"PERMISSION_DENIED", "denied"},
    {"RESOURCE_EXHAUSTED", "queue_full"},
    {"UNAVAILABLE", "unavailable"},
}};

prometheus::Labels LabelsOf(std::string_view endpoint, std::string_view model) {
  return {{"gen_ai_operation_name", std::string(GenAiOperation(endpoint))},
          {"gen_ai_provider_name", "tandem"},
          {"gen_ai_request_model", std::string(model)},
          {"gen_ai_response_model", std::string(model)}};
}

// Empty: it was not refused.
std::string_view ReasonOf(std::string_view status, std::string_view told) {
  if (std::find(kReasons.begin(), kReasons.end(), told) != kReasons.end()) return told;
  const auto known = std::find_if(kRejections.begin(), kRejections.end(),
                                  [&](const Rejection& one) { return one.status == status; });
  return known == kRejections.end() ? std::string_view() : known->reason;
}

}  // namespace

std::string_view GenAiOperation(std::string_view endpoint) {
  if (endpoint == "/v1/completions") return "text_completion";
  if (endpoint == "/v1/embeddings" || endpoint == "/api/embed" || endpoint == "/api/embeddings" ||
      endpoint == "grpc.Embed") {
    return "embeddings";
  }
  if (endpoint == "grpc.Generate") return "generate_content";
  return "chat";
}

struct IngressMetrics::Families {
  explicit Families(prometheus::Registry& registry)
      : requests(prometheus::BuildCounter()
                     .Name("tandem_requests_total")
                     .Help("Requests answered, by endpoint and status.")
                     .Register(registry)),
        rejections(prometheus::BuildCounter()
                       .Name("tandem_rejections_total")
                       .Help("Requests that were refused, by reason.")
                       .Register(registry)),
        prompt_tokens(prometheus::BuildCounter()
                          .Name("tandem_prompt_tokens_total")
                          .Help("Prompt tokens of answered requests.")
                          .Register(registry)
                          .Add({})),
        completion_tokens(prometheus::BuildCounter()
                              .Name("tandem_completion_tokens_total")
                              .Help("Tokens generated for answered requests.")
                              .Register(registry)
                              .Add({})),
        duration(prometheus::BuildHistogram()
                     .Name("gen_ai_server_request_duration_seconds")
                     .Help("From a request's arrival to the end of its answer.")
                     .Register(registry)),
        first_token(prometheus::BuildHistogram()
                        .Name("gen_ai_server_time_to_first_token_seconds")
                        .Help("From a request's arrival to the first token of each choice.")
                        .Register(registry)),
        output_token(prometheus::BuildHistogram()
                         .Name("gen_ai_server_time_per_output_token_seconds")
                         .Help("Time of each token of a choice after its first one.")
                         .Register(registry)) {
    // A rate over a reason that has not occurred is 0, not absent.
    for (const std::string_view reason : kReasons)
      rejections.Add({{"reason", std::string(reason)}});
  }

  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Counter>& rejections;
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& completion_tokens;
  prometheus::Family<prometheus::Histogram>& duration;
  prometheus::Family<prometheus::Histogram>& first_token;
  prometheus::Family<prometheus::Histogram>& output_token;
};

IngressMetrics::IngressMetrics(std::shared_ptr<prometheus::Registry> registry)
    : registry_(std::move(registry)), families_(std::make_unique<Families>(*registry_)) {}

IngressMetrics::~IngressMetrics() = default;

void IngressMetrics::CountRequest(std::string_view endpoint, std::string_view status,
                                  std::string_view reason) {
  families_->requests.Add({{"endpoint", std::string(endpoint)}, {"status", std::string(status)}})
      .Increment();
  reason = ReasonOf(status, reason);
  if (!reason.empty()) families_->rejections.Add({{"reason", std::string(reason)}}).Increment();
}

void IngressMetrics::CountRequest(std::string_view endpoint, int http_status,
                                  std::string_view reason) {
  CountRequest(endpoint, std::to_string(http_status), reason);
}

void IngressMetrics::CountTokens(std::int64_t prompt, std::int64_t completion) {
  families_->prompt_tokens.Increment(static_cast<double>(prompt));
  families_->completion_tokens.Increment(static_cast<double>(completion));
}

void IngressMetrics::ObserveFirstToken(std::string_view endpoint, std::string_view model,
                                       double seconds) {
  families_->first_token.Add(LabelsOf(endpoint, model), kFirstToken).Observe(seconds);
}

void IngressMetrics::ObserveOutputTokens(std::string_view endpoint, std::string_view model,
                                         double seconds, std::int64_t tokens_after_first) {
  families_->output_token.Add(LabelsOf(endpoint, model), kOutputToken)
      .Observe(seconds / static_cast<double>(tokens_after_first));
}

void IngressMetrics::ObserveDuration(std::string_view endpoint, std::string_view model,
                                     std::string_view error, double seconds) {
  prometheus::Labels labels = LabelsOf(endpoint, model);
  if (!error.empty()) labels.emplace("error_type", error);
  families_->duration.Add(labels, kDuration).Observe(seconds);
}

std::string IngressMetrics::Text() const {
  MetricsPage page;
  page.Add(registry_->Collect());
  page.AddProcess();
  return page.Text();
}

}  // namespace tandem
