#include "gateway/ingress/cors.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxOriginBytes = 255;
constexpr std::size_t kMaxNames = 64;
constexpr std::size_t kMaxHeaderNameBytes = 64;
constexpr char kMaxAgeSeconds[] = "600";

bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }

// scheme://host[:port], as browsers write it. A page without an origin ("null") is any page.
bool IsOrigin(std::string_view text) {
  const std::size_t mark = text.find("://");
  if (mark == std::string_view::npos || mark == 0 || text.size() > kMaxOriginBytes) return false;
  const std::string_view scheme = text.substr(0, mark);
  const std::string_view host = text.substr(mark + 3);
  const auto scheme_byte = [](char c) { return IsAlnum(c) || c == '+' || c == '-' || c == '.'; };
  const auto host_byte = [](char c) {
    return IsAlnum(c) || c == '-' || c == '.' || c == '_' || c == ':' || c == '[' || c == ']';
  };
  return !host.empty() && std::all_of(scheme.begin(), scheme.end(), scheme_byte) &&
         std::all_of(host.begin(), host.end(), host_byte);
}

// RFC 9110: the bytes of a header's name.
bool IsHeaderName(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && text.size() <= kMaxHeaderNameBytes &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return IsAlnum(c) || kMarks.find(c) != kMarks.npos; });
}

}  // namespace

absl::StatusOr<CorsRules> CorsRules::Create(const std::vector<std::string>& origins) {
  CorsRules rules;
  for (const std::string& origin : origins) {
    if (origin == "*") {
      rules.any_ = true;
    } else if (IsOrigin(origin)) {
      rules.origins_.insert(absl::AsciiStrToLower(origin));
    } else {
      return absl::InvalidArgumentError(
          Cat("expected origins such as https://app.example, or *, found '", origin, "'"));
    }
  }
  return rules;
}

bool CorsRules::Allows(std::string_view origin) const {
  if (any_) return true;
  return origins_.contains(absl::AsciiStrToLower(AbslView(origin)));
}

HttpHeaders CorsRules::HeadersFor(std::string_view origin) const {
  if (origin.empty() || !Allows(origin)) return {};
  // Only what browsers call an origin is said again.
  if (origin != "null" && !IsOrigin(origin)) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers", "Retry-After, Warning, X-Request-Id"},
          {"Vary", "Origin"}};
}

bool CorsRules::IsPreflight(const HttpRequest& head) {
  return head.method == "OPTIONS" && !head.origin.empty() && !head.cors_method.empty();
}

HttpReply CorsRules::PreflightReply(const HttpRequest& head) {
  std::vector<std::string> names;
  for (absl::string_view name : absl::StrSplit(head.cors_headers, ',')) {
    name = absl::StripAsciiWhitespace(name);
    if (names.size() < kMaxNames && IsHeaderName({name.data(), name.size()}))
      names.emplace_back(name);
  }
  HttpReply reply;
  reply.status = 204;
  reply.headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE"},
                   {"Access-Control-Max-Age", kMaxAgeSeconds}};
  if (!names.empty()) {
    reply.headers.emplace_back("Access-Control-Allow-Headers", absl::StrJoin(names, ", "));
  }
  return reply;
}

}  // namespace tandem
