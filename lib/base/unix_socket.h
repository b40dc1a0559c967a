#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/fd.h"

namespace tandem {

// Unix stream sockets that carry small messages with file descriptors (SCM_RIGHTS). One message is
// a 4-byte little-endian length, the bytes, and up to 8 descriptors attached to its first byte.
// Blocking calls with deadlines.

// Listens at `path` with mode 0600. A stale socket file (nobody listens) is replaced; a live one is
// ALREADY_EXISTS. Paths over 107 bytes are INVALID_ARGUMENT, naming the path.
absl::StatusOr<UniqueFd> ListenUnix(const std::string& path);
// Waits for one connection whose peer has our own uid (or is root); others are closed and skipped.
// Returns CANCELLED when `wake_fd` (an eventfd; -1: none) becomes readable.
absl::StatusOr<UniqueFd> AcceptUnix(int listen_fd, int wake_fd);
// Connects, checking the peer's uid too.
absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, absl::Duration timeout);

inline constexpr std::size_t kMaxFdMessageBytes = 1 << 20;
inline constexpr std::size_t kMaxFdsPerMessage = 8;

struct FdMessage {
  std::string bytes;
  std::vector<UniqueFd> fds;
};
absl::Status SendFdMessage(int socket, std::string_view bytes, const std::vector<int>& fds);
// A longer message than kMaxFdMessageBytes, or more descriptors than allowed: INVALID_ARGUMENT and
// the socket is unusable. End of stream before the first byte: OUT_OF_RANGE. Late:
// DEADLINE_EXCEEDED.
absl::StatusOr<FdMessage> ReceiveFdMessage(int socket, absl::Duration timeout);

// The numeric uid at the other end.
absl::StatusOr<unsigned> PeerUid(int socket);

}  // namespace tandem
