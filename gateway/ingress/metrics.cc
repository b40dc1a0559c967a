#include "gateway/ingress/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <utility>

namespace tandem {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                                          2.5,  5,     10,   30,  60,   120, 300};

}  // namespace

struct IngressMetrics::Families {
  explicit Families(prometheus::Registry& registry)
      : requests(prometheus::BuildCounter()
                     .Name("tandem_requests_total")
                     .Help("Requests answered, by endpoint and status")
                     .Register(registry)),
        prompt_tokens(prometheus::BuildCounter()
                          .Name("tandem_prompt_tokens_total")
                          .Help("Prompt tokens of answered requests")
                          .Register(registry)
                          .Add({})),
        completion_tokens(prometheus::BuildCounter()
                              .Name("tandem_completion_tokens_total")
                              .Help("Tokens generated for answered requests")
                              .Register(registry)
                              .Add({})),
        first_token(prometheus::BuildHistogram()
                        .Name("tandem_time_to_first_token_seconds")
                        .Help("From a request's arrival to the first token of each choice")
                        .Register(registry)
                        .Add({}, kSeconds)),
        duration(prometheus::BuildHistogram()
                     .Name("tandem_request_duration_seconds")
                     .Help("From a request's arrival to the end of its answer, by endpoint")
                     .Register(registry)) {}

  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& completion_tokens;
  prometheus::Histogram& first_token;
  prometheus::Family<prometheus::Histogram>& duration;
};

IngressMetrics::IngressMetrics(std::shared_ptr<prometheus::Registry> registry)
    : registry_(std::move(registry)), families_(std::make_unique<Families>(*registry_)) {}

IngressMetrics::~IngressMetrics() = default;

void IngressMetrics::CountRequest(std::string_view endpoint, std::string_view status) {
  families_->requests.Add({{"endpoint", std::string(endpoint)}, {"status", std::string(status)}})
      .Increment();
}

void IngressMetrics::CountRequest(std::string_view endpoint, int http_status) {
  CountRequest(endpoint, std::to_string(http_status));
}

void IngressMetrics::CountTokens(std::int64_t prompt, std::int64_t completion) {
  families_->prompt_tokens.Increment(static_cast<double>(prompt));
  families_->completion_tokens.Increment(static_cast<double>(completion));
}

void IngressMetrics::ObserveFirstToken(double seconds) { families_->first_token.Observe(seconds); }

void IngressMetrics::ObserveDuration(std::string_view endpoint, double seconds) {
  families_->duration.Add({{"endpoint", std::string(endpoint)}}, kSeconds).Observe(seconds);
}

std::string IngressMetrics::Text() const {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

}  // namespace tandem
