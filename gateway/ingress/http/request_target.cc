#include "gateway/ingress/http/request_target.h"

#include "absl/strings/match.h"
#include "lib/base/strings.h"

namespace tandem {

std::optional<RequestTarget> ParseRequestTarget(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(AbslView(target), AbslView(scheme))) continue;
    std::string_view rest = target.substr(scheme.size());
    const std::string_view host = rest.substr(0, rest.find_first_of("/?#"));
    if (host.empty() || host.find('@') != std::string_view::npos) return std::nullopt;
    rest.remove_prefix(host.size());
    return RequestTarget{.path = Cat(rest.starts_with('/') ? "" : "/", rest),
                         .host = std::string(host)};
  }
  return RequestTarget{.path = std::string(target), .host = std::nullopt};
}

}  // namespace tandem
