#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/fd.h"
#include "lib/base/unix_socket.h"
#include "lib/weights/region.h"

namespace tandem {

// How the descriptors of regions travel: over a Unix socket (mode 0600, both sides check the peer's
// uid), because gRPC cannot carry them. One connection, one exchange (lib/base/unix_socket.h
// messages): the client sends the region's name; the answer is "ok" with one descriptor, or an
// error text with none.

// The loader's side. Any thread may call Publish.
class RegionServer {
 public:
  // Listens at `path` and serves from a thread of its own.
  static absl::StatusOr<std::unique_ptr<RegionServer>> Listen(const std::string& path);
  ~RegionServer();  // stops the thread, removes the socket file
  RegionServer(const RegionServer&) = delete;
  RegionServer& operator=(const RegionServer&) = delete;

  // Hands `fd` out from now on under manifest.name. ALREADY_EXISTS for a name that was published
  // before.
  absl::Status Publish(const RegionManifest& manifest, UniqueFd fd);

 private:
  RegionServer() = default;
  void Serve();
  absl::Status Answer(int connection);

  std::unique_ptr<UnixListener> listener_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const UniqueFd>> regions_;  // guarded by mutex_
  std::thread thread_;
};

// A worker's side: the descriptor of one region, to be given to Region::Open. NOT_FOUND when the
// loader has no such region (yet), DEADLINE_EXCEEDED, or what the socket says.
absl::StatusOr<UniqueFd> FetchRegionFd(const std::string& socket_path,
                                       const std::string& region_name, absl::Duration timeout);

}  // namespace tandem
