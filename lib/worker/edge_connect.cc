#include "lib/worker/edge_connect.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

bool InlineOnly(const EdgeEndSpec& spec) {
  return spec.kinds.size() == 1 && spec.kinds[0] == HandleKind::kInline;
}

}  // namespace

void EdgeConnector::Cancel() {
  cancellation_.Cancel();
  if (listener_ != nullptr) listener_->CancelUpTo(generation_);
}

absl::StatusOr<std::vector<std::unique_ptr<Edge>>> EdgeConnector::Connect(
    std::vector<EdgeEndSpec> specs, Deadline deadline) {
  std::sort(specs.begin(), specs.end(),
            [](const EdgeEndSpec& a, const EdgeEndSpec& b) { return a.id < b.id; });
  std::vector<UniqueFd> sockets(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (InlineOnly(specs[i])) {
      // Both ends know that there is nothing to agree on. Consumers are ready before any producer
      // of ours waits for its own consumer.
      continue;
    }
    if (listener_ == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("edge ", specs[i].id,
                       ": this worker has no fd socket: only inline edges can be connected"));
    }
    if (specs[i].owner) continue;
    TANDEM_ASSIGN_OR_RETURN(sockets[i], CallOwner(specs[i], deadline));
  }
  std::vector<std::unique_ptr<Edge>> edges;
  std::vector<Edge*> producers;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    auto edge = std::make_unique<Edge>();
    if (InlineOnly(specs[i])) {
      edge->spec = specs[i];
    } else {
      TANDEM_ASSIGN_OR_RETURN(*edge, ConnectOne(specs[i], std::move(sockets[i]), deadline));
    }
    if (edge->kind == HandleKind::kInline) {
      if (edge->spec.end == EdgeEnd::kProducer) {
        producers.push_back(edge.get());
      } else {
        TANDEM_RETURN_IF_ERROR(StartInlineConsumer(device_, edge.get(), inbox_));
      }
    }
    edges.push_back(std::move(edge));
  }
  // Last: each waits for a consumer that may itself be a producer still on its way here.
  for (Edge* edge : producers)
    TANDEM_RETURN_IF_ERROR(StartInlineProducer(device_, edge, cancellation_, deadline));
  for (const auto& edge : edges) {
    spdlog::info("edge {}: {} of {} x {} x {}, generation {}, file {}:{}", edge->spec.id,
                 NameOf(edge->kind), edge->spec.layout.slots, edge->spec.layout.max_tokens,
                 edge->spec.layout.columns, edge->spec.generation, edge->identity.device,
                 edge->identity.inode);
  }
  return edges;
}

absl::StatusOr<Edge> EdgeConnector::ConnectOne(EdgeEndSpec spec, UniqueFd socket,
                                               Deadline deadline) {
  EdgeCaller caller;
  if (spec.owner) {
    TANDEM_ASSIGN_OR_RETURN(caller, listener_->WaitForCaller(spec.id, generation_, deadline));
    socket = std::move(caller.socket);
  }
  absl::StatusOr<Edge> edge;
  {
    // The socket is closed by nobody while a Cancel may shut it down.
    const Cancellation::Guard guard(cancellation_,
                                    [&socket] { ::shutdown(socket.get(), SHUT_RDWR); });
    edge = spec.owner ? OfferEdge(device_, std::move(spec), socket.get(), caller.hello, deadline)
                      : ImportEdge(device_, std::move(spec), socket.get(), deadline);
  }
  if (!edge.ok() && cancellation_.cancelled())
    return absl::CancelledError(
        absl::StrCat("connecting was cancelled (", edge.status().ToString(), ")"));
  TANDEM_RETURN_IF_ERROR(edge.status());
  edge->peer = std::move(socket);
  return edge;
}

absl::StatusOr<std::unique_ptr<EdgeWatcher>> EdgeWatcher::Start(
    const std::vector<std::unique_ptr<Edge>>& edges) {
  std::unique_ptr<EdgeWatcher> watcher(new EdgeWatcher);
  watcher->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!watcher->stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  for (const auto& edge : edges) {
    if (edge->peer.valid() && edge->kind != HandleKind::kInline)
      watcher->edges_.push_back(edge.get());
  }
  watcher->thread_ = std::thread([w = watcher.get()] { w->Run(); });
  return watcher;
}

EdgeWatcher::~EdgeWatcher() {
  const std::uint64_t one = 1;
  TANDEM_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
}

void EdgeWatcher::Run() {
  std::vector<pollfd> entries{{stop_.get(), POLLIN, 0}};
  for (const Edge* edge : edges_) entries.push_back({edge->peer.get(), POLLIN | POLLRDHUP, 0});
  while (true) {
    if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return;
    if (entries[0].revents != 0) return;
    for (std::size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].revents == 0) continue;
      spdlog::info("edge {}: the other worker is gone", edges_[i - 1]->spec.id);
      edges_[i - 1]->control->SetPeerGone();
      entries[i].fd = -1;  // poll skips it from now on
      entries[i].revents = 0;
    }
  }
}

}  // namespace tandem
