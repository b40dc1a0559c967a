#pragma once

// Internal to http/: brings in Beast.

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ingress/http/client_stream.h"
#include "gateway/ingress/http/http_server.h"
#include "gateway/ingress/http/http_types.h"

namespace tandem {

// What a connection needs of its server. Thread-safe.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual void Forget(std::uint64_t id) = 0;
  // Bytes of bodies in memory are bounded: false when these would go over the bound.
  virtual bool ReserveBody(std::size_t bytes) = 0;
  virtual void ReleaseBody(std::size_t bytes) = 0;
  // Where requests with a body are read and planned; the number that waits is bounded.
  virtual bool EnterWorkers() = 0;
  virtual void LeaveWorkers() = 0;
  virtual boost::asio::any_io_executor Workers() = 0;
};

// One client connection. All that is not static runs on its strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = ClientStream::Socket;

  // What it is doing and since when, for a server that must choose one to close. Any thread.
  enum class Phase : std::uint8_t { kIdle, kHead, kBody, kWrite, kBusy };
  struct Activity {
    std::atomic<Phase> phase = Phase::kIdle;
    std::atomic<std::chrono::steady_clock::time_point> since = std::chrono::steady_clock::now();
  };

  // `socket`'s executor must be a strand. `options`, `handler` and `owner` outlive the connection;
  // the destructor calls owner.Forget(id). `crowded`: there are too many connections; it gives
  // one answer, to an essential request, and closes. `tls`: null for plain HTTP.
  Connection(Socket socket, std::shared_ptr<boost::asio::ssl::context> tls,
             const HttpServerOptions& options, HttpHandler& handler, ConnectionOwner& owner,
             std::uint64_t id, bool crowded);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // These take the caller's reference over to the strand, so that the last one is let go there. Any
  // thread.
  using Pointer = std::shared_ptr<Connection>;
  static void Start(Pointer self);                  // serves requests until either side closes
  static void Drain(Pointer self);                  // no further request after the running one
  static void Cut(Pointer self, absl::Status why);  // ends the running answer with an error
  static void Close(Pointer self);                  // drops everything now
  std::shared_ptr<const Activity> activity() const { return activity_; }

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  template <typename T>
  using Awaitable = boost::asio::awaitable<T>;

  // How the next answer goes out, learned from the request.
  struct Framing {
    bool http10 = false;
    bool head_only = false;
    bool keep_alive = false;
    HttpHeaders headers = {};  // that the handler wants in every answer
  };

  Awaitable<void> Run();
  Awaitable<bool> Greet();
  Awaitable<bool> ServeOne();
  Awaitable<bool> AnswerOne();
  Awaitable<bool> WaitForRequest();
  Awaitable<bool> ReadBody(Parser& parser);
  Awaitable<bool> ReceiveAndAnswer(Parser& parser, HttpRequest head, Framing framing);
  Awaitable<HttpResult> HandleAside(HttpRequest request);
  Awaitable<bool> ReplyToBadHead(int status, std::string message);
  Awaitable<bool> ReplyBusy(std::string message);
  Awaitable<bool> RunJob(HttpJob& job, Framing framing);
  Awaitable<bool> WriteReply(HttpReply reply, Framing framing);
  Awaitable<bool> Write(std::string bytes);
  Awaitable<void> Watch();
  Awaitable<void> StopWatching();
  Awaitable<void> WaitForNews();
  Awaitable<void> Linger();
  HttpRequest MakeRequest(Parser& parser);
  std::function<void()> MakeWake();
  void Notify();
  void Enter(Phase phase);
  bool closing() const { return draining_ || gone_; }

  ClientStream stream_;
  const HttpServerOptions& options_;
  HttpHandler& handler_;
  ConnectionOwner& owner_;
  const std::uint64_t id_;
  const bool crowded_;
  const std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
  boost::beast::flat_buffer buffer_;
  boost::asio::steady_timer news_timer_;
  bool news_ = false;
  bool gone_ = false;      // the client has left, or we close
  bool answered_ = false;  // all of the exchange's answer has been written
  bool draining_ = false;
  bool watching_ = false;
  bool watcher_running_ = false;
  std::optional<absl::Status> cut_;
  // The request that is being answered.
  HttpExchange exchange_;
};

}  // namespace tandem
