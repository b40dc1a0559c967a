#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
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
// Connects, checking that the peer has our own uid (or is root).
absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, absl::Duration timeout);

// A listening socket that goes on serving when the process has no descriptor left: it holds a spare
// one, which a connection gets when there is no other. Accept is called by one thread, Stop by any.
class UnixListener {
 public:
  // As ListenUnix; the socket file is removed by the destructor.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Listen(const std::string& path);
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  // Waits for one connection whose peer has our own uid (or is root); others are closed and
  // skipped. While there are no descriptors it says so once in the log, leaves callers in the
  // backlog and tries again. CANCELLED after Stop; no other error can be mended by another call.
  absl::StatusOr<UniqueFd> Accept();
  // Ends Accept, now and later.
  void Stop();
  const std::string& path() const { return path_; }

 private:
  explicit UnixListener(std::string path) : path_(std::move(path)) {}
  // Makes the next attempt possible: gives the spare descriptor up, or waits for another.
  void Starved(int error);
  void TakeSpare();

  const std::string path_;
  UniqueFd listener_;
  UniqueFd stop_;   // eventfd
  UniqueFd spare_;  // invalid while a connection uses its place
  bool starved_ = false;
};

inline constexpr std::size_t kMaxFdMessageBytes = 1 << 20;
inline constexpr std::size_t kMaxFdsPerMessage = 8;

struct FdMessage {
  std::string bytes;
  std::vector<UniqueFd> fds;
};
absl::Status SendFdMessage(int socket, std::string_view bytes, const std::vector<int>& fds,
                           absl::Duration timeout = absl::Seconds(10));
// A longer message than kMaxFdMessageBytes, or more descriptors than allowed: INVALID_ARGUMENT and
// the socket is unusable. End of stream before the first byte: OUT_OF_RANGE. Late:
// DEADLINE_EXCEEDED. RESOURCE_EXHAUSTED when descriptors came that this process had no room for.
absl::StatusOr<FdMessage> ReceiveFdMessage(int socket, absl::Duration timeout);

// PERMISSION_DENIED unless the process at the other end runs as our own user, or as root.
absl::Status CheckPeer(int socket);
// The numeric uid at the other end.
absl::StatusOr<unsigned> PeerUid(int socket);

}  // namespace tandem
