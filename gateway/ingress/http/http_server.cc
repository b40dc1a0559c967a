#include "gateway/ingress/http/http_server.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/ingress/http/connection.h"
#include "gateway/ingress/http/tls_context.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Protocol = asio::generic::stream_protocol;

constexpr auto kAcceptToken = asio::as_tuple(asio::use_awaitable);
constexpr absl::Duration kCutTime = absl::Seconds(2);
constexpr std::chrono::milliseconds kAcceptPause{100};

// Who is at the other end, as far as connections are counted by it: an IPv4 address or an IPv6
// network. Empty for this machine, whose users cannot be told apart.
std::string PeerOf(const Protocol::socket& socket) {
  boost::system::error_code error;
  const Protocol::endpoint end = socket.remote_endpoint(error);
  tcp::endpoint peer;
  if (error || end.size() > peer.capacity()) return "";
  std::memcpy(peer.data(), end.data(), end.size());
  const asio::ip::address address = peer.address();
  if (address.is_loopback()) return "";
  if (address.is_v4()) return address.to_string();
  const auto bytes = address.to_v6().to_bytes();
  return std::string(bytes.begin(), bytes.begin() + 8);
}

}  // namespace

struct HttpServer::Impl final : ConnectionOwner {
  // Room for essential requests beyond max_connections.
  static constexpr std::size_t kCrowdedConnections = 32;

  struct Entry {
    std::weak_ptr<Connection> connection;
    std::shared_ptr<const Connection::Activity> activity;
    std::string peer;
    bool crowded = false;
  };
  using Filter = std::function<bool(const Entry&)>;

  Impl(const HttpServerOptions& given, HttpHandler& h)
      : options(given),
        handler(h),
        tls(given.tls),
        accept_strand(asio::make_strand(io)),
        workers(static_cast<std::size_t>(given.workers)) {}

  absl::Status Open(const ListenAddress& where);
  asio::awaitable<void> AcceptLoop();
  void Adopt(Connection::Socket socket, std::string peer);
  std::optional<Entry> TakeVictimLocked(const Filter& may);
  std::optional<Entry> MakeRoomLocked(const std::string& peer, bool& crowded);
  void CloseVictim(const Filter& may);

  void Forget(std::uint64_t id) override;
  bool ReserveBody(std::size_t bytes) override;
  void ReleaseBody(std::size_t bytes) override { body_bytes -= bytes; }
  bool EnterWorkers() override;
  void LeaveWorkers() override { --at_workers; }
  asio::any_io_executor Workers() override { return workers.get_executor(); }

  std::vector<std::shared_ptr<Connection>> Connections();
  bool WaitUntilEmpty(absl::Duration limit);
  void Stop();

  const HttpServerOptions options;
  HttpHandler& handler;
  ListenAddress address;
  TlsContexts tls;  // of the thread that accepts

  // Before `io`, whose end may destroy connections: they use these.
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint64_t, Entry> connections;  // by id: the oldest first
  std::uint64_t next_id = 0;
  bool stopping = false;
  std::atomic<std::size_t> body_bytes = 0;
  std::atomic<std::size_t> at_workers = 0;

  asio::io_context io;
  // What Shutdown posts must run, even with no connection left.
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::strand<asio::io_context::executor_type> accept_strand;
  asio::basic_socket_acceptor<Protocol> acceptor{accept_strand};
  // After `io`, which what they do comes back to.
  asio::thread_pool workers;
  std::vector<std::thread> threads;
};

absl::Status HttpServer::Impl::Open(const ListenAddress& where) {
  address = where;
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Listen(&address));
  boost::system::error_code error;
  const Protocol protocol =
      address.is_unix()
          ? Protocol(AF_UNIX, 0)
          : Protocol(asio::ip::make_address(address.ip, error).is_v6() ? tcp::v6() : tcp::v4());
  if (acceptor.assign(protocol, fd.get(), error)) return absl::UnavailableError(error.message());
  fd.Release();
  asio::co_spawn(accept_strand, AcceptLoop(), asio::detached);
  return absl::OkStatus();
}

asio::awaitable<void> HttpServer::Impl::AcceptLoop() {
  asio::steady_timer pause(accept_strand);
  while (acceptor.is_open()) {
    const asio::any_io_executor strand = asio::make_strand(io);
    auto [error, socket] = co_await acceptor.async_accept(strand, kAcceptToken);
    if (!error) {
      boost::system::error_code ignored;
      std::string peer;
      if (address.is_unix()) {
        // On this machine's own sockets the system says who calls.
        if (!CheckPeer(socket.native_handle()).ok()) continue;
      } else {
        socket.set_option(tcp::no_delay(true), ignored);
        peer = PeerOf(socket);
      }
      Adopt(Connection::Socket(std::move(socket)), std::move(peer));
      continue;
    }
    if (error == asio::error::operation_aborted || !acceptor.is_open()) break;
    // Out of descriptors, most likely: end a connection that does nothing, and let others end.
    CloseVictim([](const Entry&) { return true; });
    pause.expires_after(kAcceptPause);
    co_await pause.async_wait(kAcceptToken);
  }
}

// The connection that has been idle for longest; else the one that has been receiving or sending
// the same thing for longest, over crowded_timeout. It counts no more; the caller closes it.
std::optional<HttpServer::Impl::Entry> HttpServer::Impl::TakeVictimLocked(const Filter& may) {
  using Phase = Connection::Phase;
  const auto stuck_before =
      std::chrono::steady_clock::now() - absl::ToChronoNanoseconds(options.crowded_timeout);
  auto victim = connections.end();
  // Of the victim so far: whether it is idle comes first, then for how long.
  std::pair<bool, std::chrono::steady_clock::time_point> worst;
  for (auto entry = connections.begin(); entry != connections.end(); ++entry) {
    const Phase phase = entry->second.activity->phase;
    const auto since = entry->second.activity->since.load();
    const bool idle = phase == Phase::kIdle;
    if (!idle && (phase == Phase::kBusy || since >= stuck_before)) continue;
    if (!may(entry->second)) continue;
    if (victim != connections.end() && std::pair(!idle, since) >= worst) continue;
    victim = entry;
    worst = {!idle, since};
  }
  if (victim == connections.end()) return std::nullopt;
  Entry taken = std::move(victim->second);
  connections.erase(victim);
  return taken;
}

// Whom to close for one more connection of `peer`; `crowded` when nobody may be closed for it.
std::optional<HttpServer::Impl::Entry> HttpServer::Impl::MakeRoomLocked(const std::string& peer,
                                                                        bool& crowded) {
  std::size_t whole = 0;
  std::size_t of_peer = 0;
  for (const auto& [id, entry] : connections) {
    whole += !entry.crowded;
    of_peer += !entry.crowded && entry.peer == peer;
  }
  const bool over_peer = !peer.empty() && of_peer >= options.max_connections_per_peer;
  if (!over_peer && whole < options.max_connections) return std::nullopt;
  std::optional<Entry> victim = TakeVictimLocked(
      [&](const Entry& entry) { return !entry.crowded && (!over_peer || entry.peer == peer); });
  crowded = !victim.has_value();
  if (!crowded || connections.size() - whole < kCrowdedConnections) return victim;
  // These have little to do: the oldest has had its time.
  const auto oldest = std::find_if(connections.begin(), connections.end(),
                                   [](const auto& entry) { return entry.second.crowded; });
  victim = std::move(oldest->second);
  connections.erase(oldest);
  return victim;
}

void HttpServer::Impl::CloseVictim(const Filter& may) {
  std::optional<Entry> victim;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    victim = TakeVictimLocked(may);
  }
  if (!victim.has_value()) return;
  if (auto connection = victim->connection.lock()) Connection::Close(std::move(connection));
}

void HttpServer::Impl::Adopt(Connection::Socket socket, std::string peer) {
  std::shared_ptr<Connection> connection;
  std::optional<Entry> victim;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (stopping) return;
    bool crowded = false;
    victim = MakeRoomLocked(peer, crowded);
    const std::uint64_t id = next_id++;
    connection = std::make_shared<Connection>(std::move(socket), tls.Newest(), options, handler,
                                              *this, id, crowded);
    connections.emplace(id, Entry{.connection = connection,
                                  .activity = connection->activity(),
                                  .peer = std::move(peer),
                                  .crowded = crowded});
  }
  if (victim.has_value()) {
    if (auto old = victim->connection.lock()) Connection::Close(std::move(old));
  }
  Connection::Start(std::move(connection));
}

void HttpServer::Impl::Forget(std::uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex);
  connections.erase(id);
  changed.notify_all();
}

// Where there is no room, whoever sends for longest gives way; not at once, but for the next one.
bool HttpServer::Impl::ReserveBody(std::size_t bytes) {
  if (body_bytes.fetch_add(bytes) + bytes <= options.max_body_memory) return true;
  body_bytes -= bytes;
  CloseVictim([](const Entry& entry) { return entry.activity->phase == Connection::Phase::kBody; });
  return false;
}

bool HttpServer::Impl::EnterWorkers() {
  if (at_workers.fetch_add(1) < options.max_waiting_requests) return true;
  --at_workers;
  return false;
}

std::vector<std::shared_ptr<Connection>> HttpServer::Impl::Connections() {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::shared_ptr<Connection>> alive;
  for (const auto& [id, entry] : connections) {
    if (auto connection = entry.connection.lock()) alive.push_back(std::move(connection));
  }
  return alive;
}

bool HttpServer::Impl::WaitUntilEmpty(absl::Duration limit) {
  std::unique_lock<std::mutex> lock(mutex);
  return changed.wait_for(lock, absl::ToChronoNanoseconds(limit),
                          [this] { return connections.empty(); });
}

void HttpServer::Impl::Stop() {
  work.reset();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  if (address.is_unix()) unlink(address.unix_path.c_str());
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { Shutdown(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const ListenAddress& address,
                                                              const HttpServerOptions& options,
                                                              HttpHandler& handler) {
  auto impl = std::make_unique<Impl>(options, handler);
  TANDEM_RETURN_IF_ERROR(impl->Open(address));
  for (int i = 0; i < options.threads; ++i) {
    impl->threads.emplace_back([&io = impl->io] { io.run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::string HttpServer::address() const { return impl_->address.ToString(); }

void HttpServer::Shutdown(absl::Duration grace) {
  if (impl_->threads.empty()) return;
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->stopping = true;
  }
  asio::post(impl_->accept_strand, [impl = impl_.get()] {
    boost::system::error_code ignored;
    impl->acceptor.close(ignored);
  });
  for (auto& connection : impl_->Connections()) Connection::Drain(std::move(connection));
  if (!impl_->WaitUntilEmpty(grace)) {
    for (auto& connection : impl_->Connections()) {
      Connection::Cut(std::move(connection), absl::UnavailableError("the server is shutting down"));
    }
    if (!impl_->WaitUntilEmpty(kCutTime)) {
      for (auto& connection : impl_->Connections()) Connection::Close(std::move(connection));
    }
  }
  impl_->Stop();
}

}  // namespace tandem
