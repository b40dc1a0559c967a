#pragma once

// Internal to http/: brings in Beast.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ingress/http/http_server.h"
#include "gateway/ingress/http/http_types.h"

namespace tandem {

// One client connection. All that is not static runs on its strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;

  // `socket`'s executor must be a strand. `options` and `handler` outlive the connection;
  // `on_close` is called by the destructor.
  Connection(Socket socket, const HttpServerOptions& options, HttpHandler& handler,
             std::function<void()> on_close);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // These take the caller's reference over to the strand, so that the last one is let go there. Any
  // thread.
  using Pointer = std::shared_ptr<Connection>;
  static void Start(Pointer self);         // serves requests until either side closes
  static void StartRefusal(Pointer self);  // answers 503 to whatever comes: too many connections
  static void Drain(Pointer self);         // no further request after the running one
  static void Cut(Pointer self, absl::Status why);  // ends the running answer with an error
  static void Close(Pointer self);                  // drops everything now

 private:
  using Stream = boost::beast::basic_stream<boost::asio::generic::stream_protocol>;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  template <typename T>
  using Awaitable = boost::asio::awaitable<T>;

  // How the next answer goes out, learned from the request.
  struct Framing {
    bool http10 = false;
    bool head_only = false;
    bool keep_alive = false;
  };

  Awaitable<void> Run();
  Awaitable<void> Refuse();
  Awaitable<bool> ServeOne();
  Awaitable<bool> WaitForRequest();
  Awaitable<bool> ReadBody(Parser& parser);
  Awaitable<bool> ReplyToBadHead(int status, std::string message);
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
  bool closing() const { return draining_ || gone_; }

  Stream stream_;
  const HttpServerOptions& options_;
  HttpHandler& handler_;
  std::function<void()> on_close_;
  boost::beast::flat_buffer buffer_;
  boost::asio::steady_timer news_timer_;
  bool news_ = false;
  bool gone_ = false;  // the client has left, or we close
  bool draining_ = false;
  bool idle_ = false;  // between requests
  bool watching_ = false;
  bool watcher_running_ = false;
  std::optional<absl::Status> cut_;
};

}  // namespace tandem
