#include "gateway/ingress/allowed_hosts.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxNameBytes = 255;

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
}

bool IsPort(std::string_view text) {
  return text.size() <= 5 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c));
         });
}

bool IsAddress(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

}  // namespace

std::string HostNameOf(std::string_view text) {
  std::string_view name = text;
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return "";
    name = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    const bool v6 = std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == ':' || c == '.';
    });
    if (!v6 || name.find(':') == std::string_view::npos || !IsAddress(std::string(name))) return "";
  } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    name = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (!rest.empty() && (rest.front() != ':' || !IsPort(rest.substr(1)))) return "";
  if (text.starts_with('[')) return absl::AsciiStrToLower(AbslView(name));
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > kMaxNameBytes) return "";
  if (!std::all_of(name.begin(), name.end(), IsNameByte)) return "";
  return absl::AsciiStrToLower(AbslView(name));
}

absl::StatusOr<AllowedHosts> AllowedHosts::Create(const ListenAddress& address,
                                                  const std::vector<std::string>& names) {
  AllowedHosts hosts;
  hosts.any_ = address.is_unix();
  if (!address.host.empty()) hosts.names_.insert(absl::AsciiStrToLower(address.host));
  for (const std::string& name : names) {
    if (name == "*") {
      hosts.any_ = true;
      continue;
    }
    const std::string host = HostNameOf(name);
    if (host.empty() || name.find(':') != std::string::npos) {
      return absl::InvalidArgumentError(
          Cat("expected host names without ports, or *, found '", name, "'"));
    }
    hosts.names_.insert(host);
  }
  return hosts;
}

bool AllowedHosts::Allows(std::string_view host) const {
  if (any_) return true;
  const std::string name = HostNameOf(host);
  if (name.empty()) return false;
  return IsAddress(name) || name == "localhost" || name.ends_with(".localhost") ||
         names_.contains(name);
}

bool IsOriginOf(std::string_view origin, std::string_view host) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (origin.starts_with(scheme)) {
      return absl::EqualsIgnoreCase(AbslView(origin.substr(scheme.size())), AbslView(host));
    }
  }
  return false;
}

}  // namespace tandem
