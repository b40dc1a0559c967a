#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/base/fd.h"
#include "lib/base/unix_socket.h"
#include "lib/weights/region.h"
#include "lib/worker/edge.h"
#include "lib/worker/edge_call.h"

namespace tandem {

// How two workers on one host agree on an edge: the importer connects to the owner's Unix socket
// and says hello; the owner offers handle kinds one after another, each with fresh descriptors; the
// importer tries each in its device and takes the first that works. The connection then stays open:
// its end tells each side that the other process is gone. The messages are those of
// proto/tandem/v1/descriptors.proto.

// A connection whose hello has arrived.
struct EdgeCaller {
  UniqueFd socket;
  EdgeCall hello;
};

// Listens on the worker's Unix socket in a thread of its own and keeps callers until the owner's
// end of their edge asks for them. A caller may be earlier than the owner's Connect. At most
// kMaxCallers wait; the oldest gives way.
class EdgeListener {
 public:
  // The regions of a model that this worker has mapped, for a loader that came back after it died
  // and asks for them. From the listener's thread.
  using HeldRegions =
      std::function<std::vector<std::shared_ptr<const Region>>(const std::string& fingerprint)>;
  static absl::StatusOr<std::unique_ptr<EdgeListener>> Start(
      const std::string& path, HeldRegions held_regions = [](const std::string&) {
        return std::vector<std::shared_ptr<const Region>>();
      });
  ~EdgeListener();

  const std::string& path() const { return socket_->path(); }
  // CANCELLED after CancelUpTo the generation, DEADLINE_EXCEEDED when nobody called.
  absl::StatusOr<EdgeCaller> WaitForCaller(const std::string& edge_id, std::uint64_t generation,
                                           Deadline deadline);
  // Ends waits for callers of this generation and those before it, for good.
  void CancelUpTo(std::uint64_t generation);
  // Hangs up on callers of generations before this one.
  void DropBefore(std::uint64_t generation);

  static constexpr std::size_t kMaxCallers = 64;

 private:
  EdgeListener(std::unique_ptr<UnixListener> socket, HeldRegions held_regions)
      : socket_(std::move(socket)), held_regions_(std::move(held_regions)) {}
  void Serve();
  absl::Status Greet(UniqueFd connection);
  absl::Status GiveRegions(int connection, const std::string& fingerprint);

  const std::unique_ptr<UnixListener> socket_;
  const HeldRegions held_regions_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<EdgeCaller> callers_;
  std::uint64_t cancelled_ = 0;  // generations up to this one
  std::thread thread_;
};

// Importer: connects and says hello.
absl::StatusOr<UniqueFd> CallOwner(const EdgeEndSpec& spec, Deadline deadline);

// Importer: takes the first offer that works. An edge of kind kInline comes back without residual
// and control: the caller makes them (inline_edge.h). The socket stays the caller's, here and
// below.
absl::StatusOr<Edge> ImportEdge(Device& device, EdgeEndSpec spec, int socket, Deadline deadline);
// Owner: the other side of it.
absl::StatusOr<Edge> OfferEdge(Device& device, EdgeEndSpec spec, int socket, const EdgeCall& hello,
                               Deadline deadline);

}  // namespace tandem
