#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/fd.h"
#include "lib/worker/edge.h"
#include "lib/worker/edge_messages.h"

namespace tandem {

// How two workers on one host agree on an edge: the importer connects to the owner's Unix socket
// and says hello; the owner offers handle kinds one after another, each with fresh descriptors; the
// importer tries each in its device and takes the first that works. The connection then stays open:
// its end tells each side that the other process is gone.

// A connection whose hello has arrived.
struct EdgeCaller {
  UniqueFd socket;
  EdgeHello hello;
};

// Listens on the worker's Unix socket in a thread of its own and keeps callers until the owner's
// end of their edge asks for them. A caller may be earlier than the owner's Connect. At most
// kMaxCallers wait; the oldest gives way.
class EdgeListener {
 public:
  static absl::StatusOr<std::unique_ptr<EdgeListener>> Start(const std::string& path);
  ~EdgeListener();

  const std::string& path() const { return path_; }
  // CANCELLED after CancelUpTo the generation, DEADLINE_EXCEEDED when nobody called.
  absl::StatusOr<EdgeCaller> WaitForCaller(const std::string& edge_id, std::uint64_t generation,
                                           absl::Time deadline);
  // Ends waits for callers of this generation and those before it, for good.
  void CancelUpTo(std::uint64_t generation);
  // Hangs up on callers of generations before this one.
  void DropBefore(std::uint64_t generation);

  static constexpr std::size_t kMaxCallers = 64;

 private:
  EdgeListener(std::string path, UniqueFd listen_fd, UniqueFd wake_fd);
  void Serve();

  std::string path_;
  UniqueFd listen_fd_;
  UniqueFd wake_fd_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<EdgeCaller> callers_;
  std::uint64_t cancelled_ = 0;  // generations up to this one
  std::thread thread_;
};

// Importer: connects and says hello.
absl::StatusOr<UniqueFd> CallOwner(const EdgeEndSpec& spec, absl::Time deadline);

// Importer: takes the first offer that works. An edge of kind kInline comes back without residual
// and control: the caller makes them (inline_edge.h).
absl::StatusOr<Edge> ImportEdge(Device& device, EdgeEndSpec spec, UniqueFd socket,
                                absl::Time deadline);
// Owner: the other side of it.
absl::StatusOr<Edge> OfferEdge(Device& device, EdgeEndSpec spec, EdgeCaller caller,
                               absl::Time deadline);

}  // namespace tandem
