#include "lib/worker/edge_handshake.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/wire/weights_wire.h"
#include "tandem/v1/descriptors.pb.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {
namespace {

// A caller writes right after it connects. One that does not would keep the others waiting.
constexpr absl::Duration kHelloTimeout = absl::Milliseconds(500);
// A connect blocks only while the owner's backlog is full.
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
// All regions of a large model are about 200 KB of messages.
constexpr absl::Duration kGiveTimeout = absl::Seconds(5);
constexpr std::size_t kMaxReason = 1024;

absl::Status InEdge(const EdgeEndSpec& spec, const absl::Status& status) {
  return Annotate(status, absl::StrCat("edge ", spec.id));
}

template <typename Message>
absl::Status Send(int socket, const Message& message, const std::vector<int>& fds,
                  Deadline deadline) {
  return SendFdMessage(socket, message.SerializeAsString(), fds, deadline.left());
}

template <typename Message>
absl::Status Receive(int socket, Deadline deadline, Message* message, std::vector<UniqueFd>* fds) {
  TANDEM_ASSIGN_OR_RETURN(FdMessage received, ReceiveFdMessage(socket, deadline.left()));
  *fds = std::move(received.fds);
  if (message->ParseFromString(received.bytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("handshake: expected a ", message->GetTypeName(),
                                                 ", found ", received.bytes.size(),
                                                 " bytes of something else"));
}

absl::Status CheckHello(const EdgeEndSpec& spec, const EdgeCall& hello) {
  if (hello.layout == spec.layout) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", spec.layout.slots, " slots of ", spec.layout.max_tokens, " x ",
                   spec.layout.columns, ", found ", hello.layout.slots, " of ",
                   hello.layout.max_tokens, " x ", hello.layout.columns));
}

// Allocates for one kind. Leaves the data descriptor in *data.
absl::Status Allocate(Device& device, HandleKind kind, Edge* edge, UniqueFd* data) {
  edge->kind = kind;
  if (kind == HandleKind::kInline) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(ResidualRing ring, MakeRing(device, kind, edge->spec));
  edge->residual = std::move(ring.residual);
  edge->identity = ring.identity;
  *data = std::move(ring.fd);
  TANDEM_ASSIGN_OR_RETURN(
      edge->control,
      EdgeControl::Create(edge->spec.id, edge->spec.end, edge->spec.layout, edge->spec.generation));
  return absl::OkStatus();
}

absl::Status Import(Device& device, HandleKind kind, std::vector<UniqueFd> fds, Edge* edge) {
  edge->kind = kind;
  const std::size_t expected = kind == HandleKind::kInline ? 0 : 2;
  if (fds.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat(AbslView(NameOf(kind)), ": expected ", expected,
                                                   " descriptors, found ", fds.size()));
  }
  if (kind == HandleKind::kInline) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          SharedMemory::Take(std::move(fds[1]), edge->spec.layout.total_bytes()));
  if ((memory.kind == MemoryKind::kDmaBuf) != (kind == HandleKind::kDmaBuf)) {
    return absl::InvalidArgumentError(absl::StrCat("offered as ", AbslView(NameOf(kind)),
                                                   ", found a ",
                                                   AbslView(MemoryKindName(memory.kind))));
  }
  TANDEM_ASSIGN_OR_RETURN(edge->control,
                          EdgeControl::Open(edge->spec.id, edge->spec.end, std::move(fds[0]),
                                            edge->spec.layout, edge->spec.generation));
  edge->identity = memory.identity;
  TANDEM_ASSIGN_OR_RETURN(edge->residual,
                          device.ImportResidual(kind, std::move(memory.fd), edge->spec.layout));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<EdgeListener>> EdgeListener::Start(const std::string& path,
                                                                  HeldRegions held_regions) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<UnixListener> socket, UnixListener::Listen(path));
  std::unique_ptr<EdgeListener> listener(
      new EdgeListener(std::move(socket), std::move(held_regions)));
  listener->thread_ = std::thread([l = listener.get()] { l->Serve(); });
  return listener;
}

EdgeListener::~EdgeListener() {
  CancelUpTo(~std::uint64_t{0});
  socket_->Stop();
  thread_.join();
}

void EdgeListener::Serve() {
  while (true) {
    absl::StatusOr<UniqueFd> connection = socket_->Accept();
    if (absl::IsCancelled(connection.status())) return;
    if (!connection.ok()) {
      spdlog::critical("socket {}: no edge can be connected any more: {}", path(),
                       connection.status().ToString());
      return;
    }
    const absl::Status greeted = Greet(*std::move(connection));
    if (!greeted.ok())
      spdlog::warn("socket {}: a caller was hung up on: {}", path(), greeted.ToString());
  }
}

absl::Status EdgeListener::Greet(UniqueFd connection) {
  TANDEM_ASSIGN_OR_RETURN(const FdMessage message,
                          ReceiveFdMessage(connection.get(), kHelloTimeout));
  v1::DescriptorHello first;
  if (first.ParseFromString(message.bytes) && first.has_regions())
    return GiveRegions(connection.get(), first.regions().fingerprint());
  TANDEM_ASSIGN_OR_RETURN(EdgeCall hello, ParseEdgeCall(message.bytes));
  std::lock_guard lock(mutex_);
  std::erase_if(callers_, [&](const EdgeCaller& c) {
    return c.hello.id == hello.id && c.hello.generation == hello.generation;
  });
  if (callers_.size() == kMaxCallers) callers_.pop_front();
  callers_.push_back({std::move(connection), std::move(hello)});
  changed_.notify_all();
  return absl::OkStatus();
}

absl::Status EdgeListener::GiveRegions(int connection, const std::string& fingerprint) {
  const Deadline deadline = Deadline::After(kGiveTimeout);
  const std::vector<std::shared_ptr<const Region>> regions = held_regions_(fingerprint);
  spdlog::info("a loader asks for the regions of {}: {} are mapped here", fingerprint,
               regions.size());
  for (const std::shared_ptr<const Region>& region : regions) {
    v1::RegionGift gift;
    *gift.mutable_region() = ToProto(region->manifest());
    TANDEM_RETURN_IF_ERROR(Send(connection, gift, {region->fd()}, deadline));
  }
  return Send(connection, v1::RegionGift(), {}, deadline);
}

absl::StatusOr<EdgeCaller> EdgeListener::WaitForCaller(const std::string& edge_id,
                                                       std::uint64_t generation,
                                                       Deadline deadline) {
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
    const absl::Duration left = deadline.left();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("edge ", edge_id,
                                                      ": expected the other worker to call at ",
                                                      path(), ", it did not in time"));
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

absl::StatusOr<UniqueFd> CallOwner(const EdgeEndSpec& spec, Deadline deadline) {
  const absl::Duration timeout = std::min(deadline.left(), kCallTimeout);
  absl::StatusOr<UniqueFd> socket = ConnectUnix(spec.owner_fd_socket, timeout);
  if (!socket.ok()) return InEdge(spec, socket.status());
  const EdgeCall call{spec.id, spec.generation, spec.layout, spec.kinds};
  TANDEM_RETURN_IF_ERROR(
      InEdge(spec, SendFdMessage(socket->get(), EncodeEdgeCall(call), {}, timeout)));
  return socket;
}

absl::StatusOr<Edge> ImportEdge(Device& device, EdgeEndSpec spec, int socket, Deadline deadline) {
  for (std::size_t attempt = 0; attempt <= spec.kinds.size(); ++attempt) {
    v1::EdgeOffer offer;
    std::vector<UniqueFd> fds;
    TANDEM_RETURN_IF_ERROR(InEdge(spec, Receive(socket, deadline, &offer, &fds)));
    if (!offer.error().empty()) return InEdge(spec, absl::FailedPreconditionError(offer.error()));
    const absl::StatusOr<HandleKind> kind = ParseEnum<HandleKind>("handle kind", offer.kind());
    if (!kind.ok()) return InEdge(spec, kind.status());
    Edge edge;
    edge.spec = spec;
    absl::Status taken;
    if (std::find(spec.kinds.begin(), spec.kinds.end(), *kind) == spec.kinds.end()) {
      taken =
          absl::InvalidArgumentError(absl::StrCat(offer.kind(), " is not allowed on this edge"));
    } else {
      taken = Import(device, *kind, std::move(fds), &edge);
    }
    v1::EdgeAnswer answer;
    answer.set_accepted(taken.ok());
    if (!taken.ok()) answer.set_error(taken.ToString().substr(0, kMaxReason));
    TANDEM_RETURN_IF_ERROR(InEdge(spec, Send(socket, answer, {}, deadline)));
    if (taken.ok()) return edge;
    spdlog::info("edge {}: {} does not work here: {}", spec.id, offer.kind(), answer.error());
  }
  return InEdge(spec, absl::InvalidArgumentError("the owner offered more kinds than there are"));
}

absl::StatusOr<Edge> OfferEdge(Device& device, EdgeEndSpec spec, int socket, const EdgeCall& hello,
                               Deadline deadline) {
  std::string reasons;
  const absl::Status agreed = CheckHello(spec, hello);
  if (!agreed.ok()) reasons = agreed.ToString();
  const auto add_reason = [&](HandleKind kind, std::string_view why) {
    spdlog::info("edge {}: {} does not work here: {}", spec.id, NameOf(kind), why);
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", AbslView(NameOf(kind)), ": ",
                    AbslView(why.substr(0, kMaxReason)));
  };
  for (std::size_t i = 0; agreed.ok() && i < spec.kinds.size(); ++i) {
    const HandleKind kind = spec.kinds[i];
    if (std::find(hello.kinds.begin(), hello.kinds.end(), kind) == hello.kinds.end()) continue;
    Edge edge;
    edge.spec = spec;
    UniqueFd data;
    const absl::Status allocated = Allocate(device, kind, &edge, &data);
    if (!allocated.ok()) {
      add_reason(kind, allocated.ToString());
      continue;
    }
    v1::EdgeOffer offer;
    offer.set_kind(std::string(NameOf(kind)));
    std::vector<int> fds;
    if (kind != HandleKind::kInline) fds = {edge.control->fd(), data.get()};
    TANDEM_RETURN_IF_ERROR(InEdge(spec, Send(socket, offer, fds, deadline)));
    v1::EdgeAnswer answer;
    std::vector<UniqueFd> unexpected;
    TANDEM_RETURN_IF_ERROR(InEdge(spec, Receive(socket, deadline, &answer, &unexpected)));
    if (answer.accepted()) return edge;
    add_reason(kind, answer.error());
  }
  if (reasons.empty()) reasons = "no handle kind is allowed at both ends";
  v1::EdgeOffer last;
  last.set_error(reasons);
  TANDEM_RETURN_IF_ERROR(InEdge(spec, Send(socket, last, {}, deadline)));
  return InEdge(spec, absl::FailedPreconditionError(reasons));
}

}  // namespace tandem
