#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace prometheus {
class Registry;
}

namespace tandem {

// What an endpoint does, in the words of OpenTelemetry's semantic conventions: "chat".
std::string_view GenAiOperation(std::string_view endpoint);

// The counters of the public ports, and the text that /metrics answers. Thread-safe. The
// gen_ai_server_* histograms follow OpenTelemetry's semantic conventions for generative AI: names,
// buckets and attributes (gen_ai.operation.name, gen_ai.provider.name, gen_ai.request.model,
// gen_ai.response.model, error.type), with dots as underscores.
class IngressMetrics {
 public:
  // Adds its families to `registry`, which other parts of the gateway may share.
  explicit IngressMetrics(std::shared_ptr<prometheus::Registry> registry);
  ~IngressMetrics();

  // tandem_requests_total{endpoint,status}: HTTP status, or the gRPC code's name. One that says
  // that the request was refused counts in tandem_rejections_total{reason}, too: under `reason`
  // (RejectionReason of request/error.h) where it is one of them, else under what the status says.
  void CountRequest(std::string_view endpoint, std::string_view status,
                    std::string_view reason = "");
  void CountRequest(std::string_view endpoint, int http_status, std::string_view reason = "");
  // tandem_prompt_tokens_total, tandem_completion_tokens_total
  void CountTokens(std::int64_t prompt, std::int64_t completion);

  // Of a generation: `endpoint` tells the operation, `model` is the one that is served, so that
  // labels are bounded.
  // gen_ai_server_time_to_first_token_seconds: from the request's arrival
  void ObserveFirstToken(std::string_view endpoint, std::string_view model, double seconds);
  // gen_ai_server_time_per_output_token_seconds: of the tokens after the first, which must exist
  void ObserveOutputTokens(std::string_view endpoint, std::string_view model, double seconds,
                           std::int64_t tokens_after_first);
  // gen_ai_server_request_duration_seconds; `error`: the status where it failed, else empty
  void ObserveDuration(std::string_view endpoint, std::string_view model, std::string_view error,
                       double seconds);

  // The registry and the process' own metrics, in Prometheus' text format.
  std::string Text() const;

 private:
  struct Families;
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<Families> families_;
};

}  // namespace tandem
