#include "gateway/ingress/answer/generation_trace.h"

#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "gateway/ingress/answer/metrics.h"
#include "lib/base/strings.h"

namespace tandem {

std::shared_ptr<GenerationTrace> GenerationTrace::Begin(
    SpanExporter* exporter, const std::vector<std::string>& traceparents,
    std::string_view endpoint) {
  if (exporter == nullptr || !exporter->on()) return nullptr;
  std::optional<TraceContext> client;
  if (traceparents.size() == 1) client = TraceContext::Parse(traceparents.front());
  if (client.has_value() && !client->sampled) return nullptr;
  std::shared_ptr<GenerationTrace> trace(new GenerationTrace(
      *exporter, client.has_value() ? client->NewSpan() : TraceContext::NewTrace(), endpoint));
  if (client.has_value()) trace->client_span_ = client->span_id;
  return trace;
}

GenerationTrace::GenerationTrace(SpanExporter& exporter, TraceContext context,
                                 std::string_view endpoint)
    : exporter_(exporter),
      context_(context),
      endpoint_(endpoint),
      begin_ns_(absl::GetCurrentTimeNanos()) {}

void GenerationTrace::FirstToken() {
  if (first_token_ns_ == 0) first_token_ns_ = absl::GetCurrentTimeNanos();
}

void GenerationTrace::End(const Outcome& outcome) {
  Span span;
  span.source = {"tandem-gateway", "gateway"};
  span.context = context_;
  span.parent = client_span_;
  span.kind = Span::Kind::kServer;
  span.begin_ns = begin_ns_;
  span.end_ns = absl::GetCurrentTimeNanos();
  const std::string operation(GenAiOperation(endpoint_));
  span.name = operation;
  span.attributes = {{"gen_ai.operation.name", operation},
                     {"gen_ai.provider.name", std::string("tandem")},
                     {"tandem.endpoint", endpoint_}};
  if (!outcome.id.empty()) {
    span.name = Cat(operation, " ", outcome.model);
    span.attributes.emplace_back("gen_ai.request.model", std::string(outcome.model));
    span.attributes.emplace_back("gen_ai.response.id", std::string(outcome.id));
    span.attributes.emplace_back("gen_ai.usage.input_tokens", outcome.prompt_tokens);
    span.attributes.emplace_back("gen_ai.usage.output_tokens", outcome.completion_tokens);
  }
  if (first_token_ns_ != 0) {
    span.attributes.emplace_back("tandem.time_to_first_token_seconds",
                                 static_cast<double>(first_token_ns_ - begin_ns_) * 1e-9);
  }
  if (!outcome.error.empty()) {
    span.error = std::string(outcome.error);
    span.attributes.emplace_back("error.type", std::string(outcome.error));
  }
  exporter_.Add(std::move(span));
}

}  // namespace tandem
