#pragma once

#include <string>

#include "absl/status/status.h"

namespace tandem {

// The loader has no keys and hands out a whole model: it listens at "unix:/path" or on a loopback
// address ("127.0.0.1:0", "[::1]:50051", "localhost:0"), else INVALID_ARGUMENT. ALREADY_EXISTS when
// somebody listens at the Unix path: gRPC would silently take it over.
absl::Status CheckListenAddress(const std::string& address);

// `address` with the port that was taken: "127.0.0.1:40123".
std::string WithPort(const std::string& address, int port);

}  // namespace tandem
