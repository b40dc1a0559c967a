#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/service/listen_address.h"

namespace tandem {

// The names under which clients may ask the HTTP port, as their Host header says them. A web page
// can make its own name resolve to this machine (DNS rebinding) and its visitor's browser then
// sends the requests here: but with that name as Host. Allowed are numeric addresses (a page cannot
// bear one that is not its own), "localhost" and names under it, the name in the address that
// is listened on, and what is listed. Over a Unix socket, which no browser uses, everything is.
class AllowedHosts {
 public:
  // Without a listener's own name, and no others.
  AllowedHosts() = default;
  // `names`: host names without ports; "*" allows every name. InvalidArgument for what is none.
  static absl::StatusOr<AllowedHosts> Create(const ListenAddress& address,
                                             const std::vector<std::string>& names);

  // `host`: the value of a Host header, a name or address and perhaps a port. Any bytes.
  bool Allows(std::string_view host) const;

 private:
  bool any_ = false;
  std::set<std::string> names_;
};

// The host of "name", "name:port", "1.2.3.4:port" or "[v6]:port", in lower case and without a final
// dot; "" when `text` is nothing of the kind.
std::string HostNameOf(std::string_view text);

// Whether a page of `origin` ("http://name:port", the value of an Origin header) was loaded from
// the server that `host` names.
bool IsOriginOf(std::string_view origin, std::string_view host);

}  // namespace tandem
