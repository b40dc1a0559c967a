#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace prometheus {
class Registry;
}

namespace tandem {

// The counters of the public ports, and the text that /metrics answers. Thread-safe.
class IngressMetrics {
 public:
  // Adds its families to `registry`, which other parts of the gateway may share.
  explicit IngressMetrics(std::shared_ptr<prometheus::Registry> registry);
  ~IngressMetrics();

  // tandem_requests_total{endpoint,status}: HTTP status, or the gRPC code's name.
  void CountRequest(std::string_view endpoint, std::string_view status);
  void CountRequest(std::string_view endpoint, int http_status);
  // tandem_prompt_tokens_total, tandem_completion_tokens_total
  void CountTokens(std::int64_t prompt, std::int64_t completion);
  // tandem_time_to_first_token_seconds
  void ObserveFirstToken(double seconds);
  // tandem_request_duration_seconds{endpoint}: generations only
  void ObserveDuration(std::string_view endpoint, double seconds);

  // The registry in Prometheus' text format.
  std::string Text() const;

 private:
  struct Families;
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<Families> families_;
};

}  // namespace tandem
