#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/cancellation.h"
#include "lib/base/deadline.h"
#include "lib/base/fd.h"
#include "lib/worker/edge.h"
#include "lib/worker/edge_handshake.h"
#include "lib/worker/inline_edge.h"

namespace tandem {

// Connects all edges of one generation of one worker.
class EdgeConnector {
 public:
  // `listener` may be null (no Unix socket): then only edges that are inline alone can be
  // connected.
  EdgeConnector(Device& device, EdgeListener* listener, InlineInbox& inbox,
                std::uint64_t generation)
      : device_(device), listener_(listener), inbox_(inbox), generation_(generation) {}

  // Every worker calls all owners first and then takes the edges in the order of their ids: no two
  // wait for each other. CANCELLED after Cancel.
  absl::StatusOr<std::vector<std::unique_ptr<Edge>>> Connect(std::vector<EdgeEndSpec> specs,
                                                             Deadline deadline);
  // Ends a Connect that runs, or comes later, early. Any thread.
  void Cancel();

 private:
  absl::StatusOr<Edge> ConnectOne(EdgeEndSpec spec, UniqueFd socket, Deadline deadline);

  Device& device_;
  EdgeListener* listener_;
  InlineInbox& inbox_;
  const std::uint64_t generation_;
  Cancellation cancellation_;
};

// Watches the handshake sockets of connected edges: when the process at the other end dies or hangs
// up, the waits on this end return at once. The edges must outlive it.
class EdgeWatcher {
 public:
  static absl::StatusOr<std::unique_ptr<EdgeWatcher>> Start(
      const std::vector<std::unique_ptr<Edge>>& edges);
  ~EdgeWatcher();

 private:
  EdgeWatcher() = default;
  void Run();

  UniqueFd stop_;
  std::vector<Edge*> edges_;
  std::thread thread_;
};

}  // namespace tandem
