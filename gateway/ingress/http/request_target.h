#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tandem {

// What a request line asks for, of RFC 9112's forms (3.2).
struct RequestTarget {
  // Path and query: "/v1/models?x". "*", and what is of no form, stay as they are.
  std::string path;
  // Where the target is a whole URL, as proxies are sent: its host and port, which take the place
  // of the Host header's.
  std::optional<std::string> host;
};

// Nothing for a URL without a host, or with a user's name in it.
std::optional<RequestTarget> ParseRequestTarget(std::string_view target);

}  // namespace tandem
