#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "lib/telemetry/trace_context.h"

namespace prometheus {
class Registry;
}

namespace tandem {

// The process whose work a span is, in OpenTelemetry's terms a resource.
struct SpanSource {
  // "tandem-gpu-worker"
  std::string service;
  // Its name in the cluster: "gpu0".
  std::string instance;
  auto operator<=>(const SpanSource&) const = default;
};

// A piece of work of a request: OpenTelemetry's span.
struct Span {
  enum class Kind : std::uint8_t { kInternal = 1, kServer = 2 };
  using Value = std::variant<std::string, std::int64_t, double>;

  SpanSource source;
  TraceContext context;
  // All zero: the trace begins here.
  TraceContext::SpanId parent = {};
  std::string name;
  Kind kind = Kind::kInternal;
  // Nanoseconds of Unix time.
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  std::vector<std::pair<std::string, Value>> attributes;
  // Why it failed; empty: it did not.
  std::string error;
};

// Sends spans to a collector: OTLP over HTTP, as JSON, in batches, from a thread of its own. At
// most kMaxWaiting spans wait for a collector that is away or slow; what comes then is dropped and
// counted, and nothing else notices. All calls from any thread.
class SpanExporter {
 public:
  static constexpr std::size_t kMaxWaiting = 2048;

  // Off: spans go nowhere.
  SpanExporter();
  // Tries once more to send what waits, for two seconds at most.
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // Once. `endpoint`: "http://host:port/path", as a collector's address for traces; what has
  // another form is INVALID_ARGUMENT. `registry` gets tandem_trace_spans_total{result}.
  absl::Status Start(const std::string& endpoint, std::shared_ptr<prometheus::Registry> registry);
  bool on() const { return impl_ != nullptr; }

  // Never blocks.
  void Add(Span span);

 private:
  struct Impl;
  // Shared with the thread, which a resolver of names may hold up longer than anybody waits.
  std::shared_ptr<Impl> impl_;
};

}  // namespace tandem
