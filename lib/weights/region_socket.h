#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/dma_buf.h"
#include "lib/base/fd.h"
#include "lib/base/unix_socket.h"
#include "lib/weights/region.h"

namespace tandem {

// How the descriptors of regions travel: over a Unix socket (mode 0600, both sides check the peer's
// uid), because gRPC cannot carry them. One connection, one exchange (lib/base/unix_socket.h
// messages): the client sends the region's name; the answer is "ok" with the memfd, followed by
// messages "windows" with the dma-bufs of manifest.windows, in order; or an error text without a
// descriptor.

// The loader's side. Any thread may call Publish.
class RegionServer {
 public:
  struct Options {
    // Makes the windows; without it regions have none.
    std::optional<Udmabuf> udmabuf;
    // A region is not what it was when it was published: it is not handed out. From the server's
    // thread.
    std::function<void(const absl::Status&)> on_damage = [](const absl::Status&) {};
  };
  // Listens at `path` and serves from a thread of its own.
  static absl::StatusOr<std::unique_ptr<RegionServer>> Listen(const std::string& path,
                                                              Options options);
  static absl::StatusOr<std::unique_ptr<RegionServer>> Listen(const std::string& path) {
    return Listen(path, Options());
  }
  ~RegionServer();  // stops the thread, removes the socket file
  RegionServer(const RegionServer&) = delete;
  RegionServer& operator=(const RegionServer&) = delete;

  // Hands `fd` out from now on under manifest.name. Every handing-out but the first sums the region
  // before: until then nobody else could write to it. ALREADY_EXISTS for a name that was published
  // before.
  absl::Status Publish(const RegionManifest& manifest, UniqueFd fd);

 private:
  struct Published {
    RegionManifest manifest;
    UniqueFd fd;
    std::atomic<bool> handed_out{false};
  };

  RegionServer() = default;
  void Serve();
  absl::Status Answer(int connection);
  absl::Status SendWindows(int connection, const Published& region);

  Options options_;
  std::unique_ptr<UnixListener> listener_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Published>> regions_;  // guarded by mutex_
  std::thread thread_;
};

// What a worker gets, to be given to Region::Open.
struct RegionDescriptors {
  UniqueFd memfd;
  std::vector<UniqueFd> windows;
};
// A worker's side. NOT_FOUND when the loader has no such region (yet) or does not give it,
// DEADLINE_EXCEEDED, or what the socket says.
absl::StatusOr<RegionDescriptors> FetchRegion(const std::string& socket_path,
                                              const RegionManifest& manifest,
                                              absl::Duration timeout);

}  // namespace tandem
