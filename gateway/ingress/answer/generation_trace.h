#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/telemetry/span_exporter.h"

namespace tandem {

// The span of one request at the gateway, from its arrival to the end of its answer; what the
// cluster does for it hangs below (gateway/dispatch/request_traces.h). One thread at a time.
class GenerationTrace {
 public:
  // `traceparents`: what the client sent under that name, as W3C has it: exactly one that is well
  // formed says the trace that this one goes on with, anything else begins a new one. Null where
  // the exporter is null or off, or where the client's trace is not sampled.
  static std::shared_ptr<GenerationTrace> Begin(SpanExporter* exporter,
                                                const std::vector<std::string>& traceparents,
                                                std::string_view endpoint);

  // Below which the cluster's spans hang.
  std::string parent() const { return context_.ToString(); }
  // Of the first choice; later calls do nothing.
  void FirstToken();
  struct Outcome {
    // As far as it got: empty where the request was refused.
    std::string_view id = {};
    std::string_view model = {};
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    // The status where it failed.
    std::string_view error = {};
  };
  // Once, last.
  void End(const Outcome& outcome);

 private:
  GenerationTrace(SpanExporter& exporter, TraceContext context, std::string_view endpoint);

  SpanExporter& exporter_;
  TraceContext context_;
  TraceContext::SpanId client_span_ = {};
  std::string endpoint_;
  std::int64_t begin_ns_;
  std::int64_t first_token_ns_ = 0;
};

}  // namespace tandem
