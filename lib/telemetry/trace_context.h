#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tandem {

// A place in a trace: https://www.w3.org/TR/trace-context/, version 00.
struct TraceContext {
  using TraceId = std::array<std::uint8_t, 16>;
  using SpanId = std::array<std::uint8_t, 8>;

  TraceId trace_id = {};
  SpanId span_id = {};
  // Whoever began the trace wants it recorded.
  bool sampled = true;

  // Nothing for what is no traceparent; one of a later version is read as far as 00 goes.
  static std::optional<TraceContext> Parse(std::string_view traceparent);
  // The first span of a new trace, with random ids.
  static TraceContext NewTrace();
  // A further span of the same trace.
  TraceContext NewSpan() const;

  // As a traceparent.
  std::string ToString() const;
  bool operator==(const TraceContext&) const = default;
};

// As ids are written: digits in lower case.
std::string HexOf(std::span<const std::uint8_t> bytes);

}  // namespace tandem
