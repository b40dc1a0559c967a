#include "gateway/ingress/http/http_server.h"

#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/ingress/http/connection.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using UnixProtocol = asio::local::stream_protocol;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr absl::Duration kCutTime = absl::Seconds(2);
constexpr std::chrono::milliseconds kAcceptPause{100};

void SetNoDelay(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
}
void SetNoDelay(UnixProtocol::socket&) {}

}  // namespace

struct HttpServer::Impl {
  Impl(const HttpServerOptions& given, HttpHandler& h)
      : options(given), handler(h), accept_strand(asio::make_strand(io)) {}

  absl::Status ListenTcp(const ListenAddress& where);
  absl::Status ListenUnixSocket(const ListenAddress& where);
  template <typename Acceptor>
  asio::awaitable<void> AcceptLoop(Acceptor& acceptor);
  void Adopt(Connection::Socket socket);
  void Forget(std::uint64_t id);
  std::vector<std::shared_ptr<Connection>> Connections();
  bool WaitUntilEmpty(absl::Duration limit);
  void Stop();

  const HttpServerOptions options;
  HttpHandler& handler;
  ListenAddress address;

  // Before `io`, whose end may destroy connections: they use these.
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint64_t, std::weak_ptr<Connection>> connections;
  std::uint64_t next_id = 0;
  bool stopping = false;

  asio::io_context io;
  // What Shutdown posts must run, even with no connection left.
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::strand<asio::io_context::executor_type> accept_strand;
  std::optional<tcp::acceptor> tcp_acceptor;
  std::optional<UnixProtocol::acceptor> unix_acceptor;
  std::vector<std::thread> threads;
};

absl::Status HttpServer::Impl::ListenTcp(const ListenAddress& where) {
  boost::system::error_code error;
  const tcp::endpoint endpoint(asio::ip::make_address(where.ip, error), where.port);
  const auto failed = [&](std::string_view what) {
    return absl::UnavailableError(
        Cat("cannot listen on ", where.ToString(), ": ", what, ": ", error.message()));
  };
  if (error) return failed("address");
  tcp::acceptor acceptor(accept_strand);
  if (acceptor.open(endpoint.protocol(), error)) return failed("socket");
  if (acceptor.set_option(tcp::acceptor::reuse_address(true), error)) return failed("option");
  if (acceptor.bind(endpoint, error)) return failed("bind");
  if (acceptor.listen(asio::socket_base::max_listen_connections, error)) return failed("listen");
  const tcp::endpoint actual = acceptor.local_endpoint(error);
  if (error) return failed("local address");
  address = where;
  address.port = actual.port();
  tcp_acceptor.emplace(std::move(acceptor));
  asio::co_spawn(accept_strand, AcceptLoop(*tcp_acceptor), asio::detached);
  return absl::OkStatus();
}

absl::Status HttpServer::Impl::ListenUnixSocket(const ListenAddress& where) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, ListenUnix(where.unix_path));
  boost::system::error_code error;
  UnixProtocol::acceptor acceptor(accept_strand);
  if (acceptor.assign(UnixProtocol(), fd.get(), error)) {
    return absl::UnavailableError(
        Cat("cannot listen on ", where.ToString(), ": ", error.message()));
  }
  fd.Release();
  address = where;
  unix_acceptor.emplace(std::move(acceptor));
  asio::co_spawn(accept_strand, AcceptLoop(*unix_acceptor), asio::detached);
  return absl::OkStatus();
}

template <typename Acceptor>
asio::awaitable<void> HttpServer::Impl::AcceptLoop(Acceptor& acceptor) {
  asio::steady_timer pause(accept_strand);
  while (acceptor.is_open()) {
    const asio::any_io_executor strand = asio::make_strand(io);
    auto [error, socket] = co_await acceptor.async_accept(strand, kToken);
    if (!error) {
      SetNoDelay(socket);
      Adopt(Connection::Socket(std::move(socket)));
      continue;
    }
    if (error == asio::error::operation_aborted || !acceptor.is_open()) break;
    // Out of descriptors, most likely: let some connections end first.
    pause.expires_after(kAcceptPause);
    co_await pause.async_wait(kToken);
  }
}

void HttpServer::Impl::Adopt(Connection::Socket socket) {
  std::shared_ptr<Connection> connection;
  bool full = false;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (stopping) return;
    full = connections.size() >= options.max_connections;
    // Refusals cost little, but they too have a bound.
    if (connections.size() >= options.max_connections * 2 + 16) return;
    const std::uint64_t id = next_id++;
    connection = std::make_shared<Connection>(std::move(socket), options, handler,
                                              [this, id] { Forget(id); });
    connections.emplace(id, connection);
  }
  if (full) {
    Connection::StartRefusal(std::move(connection));
  } else {
    Connection::Start(std::move(connection));
  }
}

void HttpServer::Impl::Forget(std::uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex);
  connections.erase(id);
  changed.notify_all();
}

std::vector<std::shared_ptr<Connection>> HttpServer::Impl::Connections() {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::shared_ptr<Connection>> alive;
  for (const auto& [id, weak] : connections) {
    if (auto connection = weak.lock()) alive.push_back(std::move(connection));
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
  TANDEM_RETURN_IF_ERROR(address.is_unix() ? impl->ListenUnixSocket(address)
                                           : impl->ListenTcp(address));
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
    if (impl->tcp_acceptor.has_value()) impl->tcp_acceptor->close(ignored);
    if (impl->unix_acceptor.has_value()) impl->unix_acceptor->close(ignored);
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
