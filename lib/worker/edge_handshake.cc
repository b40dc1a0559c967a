#include "lib/worker/edge_handshake.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr absl::Duration kHelloTimeout = absl::Seconds(2);
constexpr int kMaxAcceptFailures = 100;

absl::Status InEdge(const EdgeEndSpec& spec, const absl::Status& status) {
  return Annotate(status, absl::StrCat("edge ", spec.id));
}

absl::StatusOr<FdMessage> Receive(int socket, absl::Time deadline) {
  return ReceiveFdMessage(socket, deadline - absl::Now());
}

absl::Status CheckHello(const EdgeEndSpec& spec, const EdgeHello& hello) {
  if (hello.layout == spec.layout) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", spec.layout.slots, " slots of ", spec.layout.max_tokens, " x ",
                   spec.layout.hidden_size, ", found ", hello.layout.slots, " of ",
                   hello.layout.max_tokens, " x ", hello.layout.hidden_size));
}

// Allocates for one kind. Leaves the data descriptor in *data.
absl::Status Allocate(Device& device, HandleKind kind, Edge* edge, UniqueFd* data) {
  edge->kind = kind;
  if (kind == HandleKind::kInline) return absl::OkStatus();
  if (kind == HandleKind::kDmaBuf) {
    TANDEM_ASSIGN_OR_RETURN(edge->residual, device.ExportResidual(kind, edge->spec.layout, data));
    TANDEM_ASSIGN_OR_RETURN(edge->identity, IdentityOf(data->get()));
  } else {
    TANDEM_ASSIGN_OR_RETURN(ResidualRing ring, MakeHostRing(device, edge->spec));
    edge->residual = std::move(ring.residual);
    edge->identity = ring.identity;
    *data = std::move(ring.fd);
  }
  TANDEM_ASSIGN_OR_RETURN(
      edge->control,
      EdgeControl::Create(edge->spec.id, edge->spec.end, edge->spec.layout, edge->spec.generation));
  return absl::OkStatus();
}

absl::Status Import(Device& device, HandleKind kind, std::vector<UniqueFd> fds, Edge* edge) {
  edge->kind = kind;
  const std::size_t expected = kind == HandleKind::kInline ? 0 : 2;
  if (fds.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat(AbslView(HandleKindName(kind)), ": expected ",
                                                   expected, " descriptors, found ", fds.size()));
  }
  if (kind == HandleKind::kInline) return absl::OkStatus();
  if (kind == HandleKind::kHostPointer)
    TANDEM_RETURN_IF_ERROR(CheckSealedSize(fds[1].get(), edge->spec.layout.total_bytes()));
  TANDEM_ASSIGN_OR_RETURN(edge->control,
                          EdgeControl::Open(edge->spec.id, edge->spec.end, std::move(fds[0]),
                                            edge->spec.layout, edge->spec.generation));
  TANDEM_ASSIGN_OR_RETURN(edge->identity, IdentityOf(fds[1].get()));
  TANDEM_ASSIGN_OR_RETURN(edge->residual,
                          device.ImportResidual(kind, std::move(fds[1]), edge->spec.layout));
  return absl::OkStatus();
}

}  // namespace

EdgeListener::EdgeListener(std::string path, UniqueFd listen_fd, UniqueFd wake_fd)
    : path_(std::move(path)), listen_fd_(std::move(listen_fd)), wake_fd_(std::move(wake_fd)) {}

absl::StatusOr<std::unique_ptr<EdgeListener>> EdgeListener::Start(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd listen_fd, ListenUnix(path));
  UniqueFd wake_fd(::eventfd(0, EFD_CLOEXEC));
  if (!wake_fd.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  std::unique_ptr<EdgeListener> listener(
      new EdgeListener(path, std::move(listen_fd), std::move(wake_fd)));
  listener->thread_ = std::thread([l = listener.get()] { l->Serve(); });
  return listener;
}

EdgeListener::~EdgeListener() {
  CancelUpTo(~std::uint64_t{0});
  const std::uint64_t one = 1;
  TANDEM_CHECK(::write(wake_fd_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
  ::unlink(path_.c_str());
}

void EdgeListener::Serve() {
  int failures = 0;
  while (failures < kMaxAcceptFailures) {
    absl::StatusOr<UniqueFd> socket = AcceptUnix(listen_fd_.get(), wake_fd_.get());
    if (absl::IsCancelled(socket.status())) return;
    if (!socket.ok()) {
      spdlog::error("edge socket {}: {}", path_, socket.status().ToString());
      ++failures;
      continue;
    }
    absl::StatusOr<FdMessage> message = ReceiveFdMessage(socket->get(), kHelloTimeout);
    absl::StatusOr<EdgeHello> hello =
        message.ok() ? ParseEdgeHello(message->bytes) : message.status();
    if (!hello.ok()) {
      spdlog::warn("edge socket {}: a caller was hung up on: {}", path_, hello.status().ToString());
      continue;
    }
    std::lock_guard lock(mutex_);
    std::erase_if(callers_, [&](const EdgeCaller& c) {
      return c.hello.id == hello->id && c.hello.generation == hello->generation;
    });
    if (callers_.size() == kMaxCallers) callers_.pop_front();
    callers_.push_back({*std::move(socket), *std::move(hello)});
    changed_.notify_all();
  }
  spdlog::critical("edge socket {}: gave up after {} failures", path_, failures);
}

absl::StatusOr<EdgeCaller> EdgeListener::WaitForCaller(const std::string& edge_id,
                                                       std::uint64_t generation,
                                                       absl::Time deadline) {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto found = std::find_if(callers_.begin(), callers_.end(), [&](const EdgeCaller& c) {
      return c.hello.id == edge_id && c.hello.generation == generation;
    });
    if (found != callers_.end()) {
      EdgeCaller caller = std::move(*found);
      callers_.erase(found);
      return caller;
    }
    if (generation <= cancelled_)
      return absl::CancelledError(absl::StrCat("edge ", edge_id, ": connecting was cancelled"));
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "edge ", edge_id, ": expected the other worker at ", path_, ", nobody came"));
    }
    changed_.wait_for(lock, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(60))));
  }
}

void EdgeListener::CancelUpTo(std::uint64_t generation) {
  std::lock_guard lock(mutex_);
  cancelled_ = std::max(cancelled_, generation);
  changed_.notify_all();
}

void EdgeListener::DropBefore(std::uint64_t generation) {
  std::lock_guard lock(mutex_);
  std::erase_if(callers_, [&](const EdgeCaller& c) { return c.hello.generation < generation; });
}

absl::StatusOr<UniqueFd> CallOwner(const EdgeEndSpec& spec, absl::Time deadline) {
  absl::StatusOr<UniqueFd> socket = ConnectUnix(spec.owner_fd_socket, deadline - absl::Now());
  if (!socket.ok()) return InEdge(spec, socket.status());
  const EdgeHello hello{spec.id, spec.generation, spec.layout, spec.kinds};
  TANDEM_RETURN_IF_ERROR(InEdge(spec, SendFdMessage(socket->get(), Encode(hello), {})));
  return socket;
}

absl::StatusOr<Edge> ImportEdge(Device& device, EdgeEndSpec spec, UniqueFd socket,
                                absl::Time deadline) {
  std::string reasons;
  for (std::size_t attempt = 0; attempt <= spec.kinds.size(); ++attempt) {
    absl::StatusOr<FdMessage> message = Receive(socket.get(), deadline);
    if (!message.ok()) return InEdge(spec, message.status());
    absl::StatusOr<EdgeOffer> offer = ParseEdgeOffer(message->bytes);
    if (!offer.ok()) return InEdge(spec, offer.status());
    if (!offer->error.empty()) return InEdge(spec, absl::FailedPreconditionError(offer->error));
    Edge edge;
    edge.spec = spec;
    absl::Status taken = Import(device, offer->kind, std::move(message->fds), &edge);
    if (std::find(spec.kinds.begin(), spec.kinds.end(), offer->kind) == spec.kinds.end()) {
      taken = absl::InvalidArgumentError(
          absl::StrCat(AbslView(HandleKindName(offer->kind)), " is not allowed on this edge"));
    }
    const EdgeAnswer answer{taken.ok(), taken.ok() ? "" : taken.ToString()};
    TANDEM_RETURN_IF_ERROR(InEdge(spec, SendFdMessage(socket.get(), Encode(answer), {})));
    if (taken.ok()) {
      edge.peer = std::move(socket);
      return edge;
    }
    spdlog::info("edge {}: {} does not work here: {}", spec.id, HandleKindName(offer->kind),
                 answer.error);
  }
  return InEdge(spec, absl::InvalidArgumentError("the owner offered more kinds than there are"));
}

absl::StatusOr<Edge> OfferEdge(Device& device, EdgeEndSpec spec, EdgeCaller caller,
                               absl::Time deadline) {
  std::string reasons;
  const absl::Status hello = CheckHello(spec, caller.hello);
  if (!hello.ok()) reasons = hello.ToString();
  for (std::size_t i = 0; hello.ok() && i < spec.kinds.size(); ++i) {
    const HandleKind kind = spec.kinds[i];
    if (std::find(caller.hello.kinds.begin(), caller.hello.kinds.end(), kind) ==
        caller.hello.kinds.end())
      continue;
    Edge edge;
    edge.spec = spec;
    UniqueFd data;
    const absl::Status allocated = Allocate(device, kind, &edge, &data);
    if (!allocated.ok()) {
      absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", AbslView(HandleKindName(kind)), ": ",
                      allocated.ToString());
      spdlog::info("edge {}: {} does not work here: {}", spec.id, HandleKindName(kind),
                   allocated.ToString());
      continue;
    }
    std::vector<int> fds;
    if (kind != HandleKind::kInline) fds = {edge.control->fd(), data.get()};
    TANDEM_RETURN_IF_ERROR(
        InEdge(spec, SendFdMessage(caller.socket.get(), Encode(EdgeOffer{kind, ""}), fds)));
    absl::StatusOr<FdMessage> message = Receive(caller.socket.get(), deadline);
    if (!message.ok()) return InEdge(spec, message.status());
    absl::StatusOr<EdgeAnswer> answer = ParseEdgeAnswer(message->bytes);
    if (!answer.ok()) return InEdge(spec, answer.status());
    if (answer->accepted) {
      edge.peer = std::move(caller.socket);
      return edge;
    }
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", AbslView(HandleKindName(kind)), ": ",
                    answer->error);
  }
  if (reasons.empty()) reasons = "no handle kind is allowed at both ends";
  TANDEM_RETURN_IF_ERROR(InEdge(
      spec,
      SendFdMessage(caller.socket.get(), Encode(EdgeOffer{HandleKind::kInline, reasons}), {})));
  return InEdge(spec, absl::FailedPreconditionError(reasons));
}

}  // namespace tandem
