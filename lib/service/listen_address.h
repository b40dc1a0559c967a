#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"

namespace tandem {

// Where a port listens: "host:port" (port 0: any free one), "[ipv6]:port" or "unix:/path".
struct ListenAddress {
  std::string unix_path;  // set: a Unix socket, and the rest is empty
  std::string host;       // as written, without brackets
  std::uint16_t port = 0;
  std::string ip;         // the first address that `host` resolves to, numeric
  bool loopback = false;  // every address that `host` resolves to is a loopback one

  bool is_unix() const { return !unix_path.empty(); }
  // "127.0.0.1:8080", "[::1]:8080" or "unix:/path".
  std::string ToString() const;
};

// InvalidArgument, naming the text, when it is none of the three forms; NotFound when the host does
// not resolve. Resolving may block.
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text);

// What stands between a public port and those who may not use it.
struct PortGuards {
  bool api_key = false;
  bool tls = false;
  bool insecure = false;  // somebody wants it without
};

// Parses, and refuses (PermissionDenied) an address that other machines can reach without both an
// API key and TLS, unless that was asked for. `flag` ("--http") names the setting in the error.
absl::StatusOr<ListenAddress> CheckedListenAddress(std::string_view flag, std::string_view text,
                                                   PortGuards guards);

// The same for ports without keys, between the processes of a cluster: a Unix socket, or a numeric
// loopback address or "localhost". INVALID_ARGUMENT for every other one.
absl::StatusOr<ListenAddress> InnerListenAddress(std::string_view flag, std::string_view text);

// Binds and listens; accepting does not block. Puts the port that the system has chosen into
// *address. The error names the address and has the system's reason.
absl::StatusOr<UniqueFd> Listen(ListenAddress* address);

// Whether one can listen there now, with the system's reason when not. ALREADY_EXISTS when a
// process listens at the Unix socket (gRPC would silently take its place), UNAVAILABLE for a port
// that is taken or not allowed. For its message: what is free now can be taken in the next moment.
absl::Status CheckCanListen(const ListenAddress& address);

}  // namespace tandem
