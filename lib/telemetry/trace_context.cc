#include "lib/telemetry/trace_context.h"

#include <sys/random.h>

#include <algorithm>
#include <span>

#include "absl/strings/escaping.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Lower case only, as the recommendation has it.
int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ReadHex(std::string_view text, std::span<std::uint8_t> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = DigitOf(text[2 * i]);
    const int low = DigitOf(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

bool IsZero(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

void FillRandom(std::span<std::uint8_t> bytes) {
  do {
    // So few bytes come whole, whatever signals there are.
    TANDEM_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  } while (IsZero(bytes));
}

}  // namespace

std::string HexOf(std::span<const std::uint8_t> bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::optional<TraceContext> TraceContext::Parse(std::string_view text) {
  constexpr std::size_t kBytes = 55;
  std::array<std::uint8_t, 1> version;
  std::array<std::uint8_t, 1> flags;
  TraceContext context;
  const bool shaped =
      text.size() >= kBytes && text[2] == '-' && text[35] == '-' && text[52] == '-' &&
      ReadHex(text.substr(0, 2), version) && ReadHex(text.substr(3, 32), context.trace_id) &&
      ReadHex(text.substr(36, 16), context.span_id) && ReadHex(text.substr(53, 2), flags);
  if (!shaped || version[0] == 0xff || IsZero(context.trace_id) || IsZero(context.span_id))
    return std::nullopt;
  if (version[0] == 0 && text.size() != kBytes) return std::nullopt;
  if (text.size() > kBytes && text[kBytes] != '-') return std::nullopt;
  context.sampled = (flags[0] & 1) != 0;
  return context;
}

TraceContext TraceContext::NewTrace() {
  TraceContext context;
  FillRandom(context.trace_id);
  FillRandom(context.span_id);
  return context;
}

TraceContext TraceContext::NewSpan() const {
  TraceContext context = *this;
  FillRandom(context.span_id);
  return context;
}

std::string TraceContext::ToString() const {
  return Cat("00-", HexOf(trace_id), "-", HexOf(span_id), sampled ? "-01" : "-00");
}

}  // namespace tandem
