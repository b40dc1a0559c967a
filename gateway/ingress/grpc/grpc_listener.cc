#include "gateway/ingress/grpc/grpc_listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr int kPauseMilliseconds = 100;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr_in& v4() const { return reinterpret_cast<const sockaddr_in&>(storage); }
  const sockaddr_in6& v6() const { return reinterpret_cast<const sockaddr_in6&>(storage); }
};

// What gRPC calls the peer, and the machine it is on: empty for this one, whose users cannot be
// told apart.
std::pair<std::string, std::string> PeerOf(int fd) {
  SocketAddress address;
  if (getpeername(fd, address.get(), &address.size) != 0) return {};
  char text[INET6_ADDRSTRLEN];
  if (address.storage.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&address.v6().sin6_addr)) {
    const in6_addr& ip = address.v6().sin6_addr;
    inet_ntop(AF_INET6, &ip, text, sizeof(text));
    // Whoever has an address there has the network.
    std::string network(reinterpret_cast<const char*>(&ip), 8);
    return {Cat("ipv6:[", std::string_view(text), "]:", ntohs(address.v6().sin6_port)),
            IN6_IS_ADDR_LOOPBACK(&ip) ? std::string() : network};
  }
  if (address.storage.ss_family != AF_INET && address.storage.ss_family != AF_INET6) return {};
  const bool mapped = address.storage.ss_family == AF_INET6;
  in_addr ip = address.v4().sin_addr;
  if (mapped) std::memcpy(&ip, address.v6().sin6_addr.s6_addr + 12, sizeof(ip));
  inet_ntop(AF_INET, &ip, text, sizeof(text));
  const std::uint16_t port = ntohs(mapped ? address.v6().sin6_port : address.v4().sin_port);
  const bool loopback = (ntohl(ip.s_addr) >> 24) == 127;
  return {Cat("ipv4:", std::string_view(text), ":", port),
          loopback ? std::string() : std::string(text)};
}

// gRPC writes brackets as a URI does.
std::string PlainPeer(std::string peer) {
  for (const auto& [escape, bracket] : {std::pair("%5B", "["), std::pair("%5D", "]")}) {
    const std::size_t at = peer.find(escape);
    if (at != std::string::npos) peer.replace(at, 3, bracket);
  }
  return peer;
}

bool IsStarved(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

absl::Status GrpcListener::Watch(int fd, unsigned events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return absl::UnavailableError(Cat("epoll: ", strerror(errno)));
}

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Listen(const ListenAddress& address,
                                                                   Limits limits) {
  std::unique_ptr<GrpcListener> self(new GrpcListener(address, limits));
  absl::StatusOr<UniqueFd> listener = tandem::Listen(&self->address_);
  if (!listener.ok()) return listener.status();
  self->listener_ = *std::move(listener);
  self->stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  self->epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!self->stop_.valid() || !self->epoll_.valid()) {
    return absl::UnavailableError(Cat("eventfd or epoll: ", strerror(errno)));
  }
  TANDEM_RETURN_IF_ERROR(self->Watch(self->listener_.get(), EPOLLIN));
  TANDEM_RETURN_IF_ERROR(self->Watch(self->stop_.get(), EPOLLIN));
  return self;
}

GrpcListener::~GrpcListener() {
  Stop();
  if (address_.is_unix()) unlink(address_.unix_path.c_str());
}

void GrpcListener::Serve(std::function<void(int fd)> take) {
  take_ = std::move(take);
  thread_ = std::thread([this] { Run(); });
}

void GrpcListener::Stop() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
  listener_.Reset();
}

void GrpcListener::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 paused_ ? kPauseMilliseconds : -1);
    bool accept = paused_;
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == stop_.get()) return;
      if (fd == listener_.get()) {
        accept = true;
        continue;
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto ended = connections_.find(fd);
      if (ended == connections_.end()) continue;
      by_peer_.erase(ended->second.peer);
      connections_.erase(ended);
    }
    if (accept) AcceptAll();
  }
}

// Out of descriptors, most likely: the connection that waits stays in the backlog for a while.
void GrpcListener::Pause() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    CloseIdleLocked(nullptr);
  }
  if (!std::exchange(paused_, true)) {
    spdlog::warn("gRPC: a connection cannot be accepted: {}", strerror(errno));
  }
  epoll_event none{.events = 0, .data = {.fd = listener_.get()}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.get(), &none);
}

void GrpcListener::AcceptAll() {
  while (true) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      Adopt(std::move(fd));
      continue;
    }
    if (IsStarved(errno)) return Pause();
    if (errno == EAGAIN) break;
  }
  if (!std::exchange(paused_, false)) return;
  epoll_event event{.events = EPOLLIN, .data = {.fd = listener_.get()}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.get(), &event);
}

void GrpcListener::Adopt(UniqueFd fd) {
  // A Unix socket serves this process's own user (and root).
  if (address_.is_unix() && !CheckPeer(fd.get()).ok()) return;
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Connection connection;
  std::tie(connection.peer, connection.machine) = PeerOf(fd.get());
  connection.fd = UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  // Refused by closing it: the client tries again.
  if (!connection.fd.valid()) return;
  const int own = connection.fd.get();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!MakeRoomLocked(connection.machine) || !Watch(own, EPOLLRDHUP).ok()) return;
    by_peer_[connection.peer] = own;
    connections_.emplace(own, std::move(connection));
  }
  take_(fd.Release());
}

bool GrpcListener::MakeRoomLocked(const std::string& machine) {
  std::size_t of_machine = 0;
  for (const auto& [fd, connection] : connections_) of_machine += connection.machine == machine;
  if (!machine.empty() && of_machine >= limits_.connections_per_peer) {
    return CloseIdleLocked(&machine);
  }
  return connections_.size() < limits_.connections || CloseIdleLocked(nullptr);
}

// Closes the connection that has been without a call for longest; `machine`: one of its.
bool GrpcListener::CloseIdleLocked(const std::string* machine) {
  auto victim = connections_.end();
  for (auto it = connections_.begin(); it != connections_.end(); ++it) {
    const Connection& connection = it->second;
    if (connection.calls > 0 || (machine != nullptr && connection.machine != *machine)) continue;
    if (victim == connections_.end() || connection.idle_since < victim->second.idle_since) {
      victim = it;
    }
  }
  if (victim == connections_.end()) return false;
  // gRPC sees the end and lets its descriptor go.
  shutdown(victim->first, SHUT_RDWR);
  by_peer_.erase(victim->second.peer);
  connections_.erase(victim);
  return true;
}

void GrpcListener::CountCall(const std::string& peer, int change) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_peer_.find(PlainPeer(peer));
  if (found == by_peer_.end()) return;
  Connection& connection = connections_.at(found->second);
  connection.calls += change;
  connection.idle_since = Clock::now();
}

void GrpcListener::CallBegan(const std::string& peer) { CountCall(peer, 1); }
void GrpcListener::CallEnded(const std::string& peer) { CountCall(peer, -1); }

}  // namespace tandem
