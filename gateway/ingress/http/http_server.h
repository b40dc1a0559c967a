#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/ingress/http/http_types.h"
#include "lib/service/listen_address.h"

namespace tandem {

class Certificates;

// A request that has been answered, for an access log.
struct HttpExchange {
  // "" for one whose head could not be read, as the next three.
  std::string method;
  std::string path;  // without the query
  std::string id;
  std::string body;  // where HttpServerOptions::keep_bodies asks for it
  int status = 0;
  std::uint64_t reply_bytes = 0;
  absl::Duration time;       // from its first byte to the end of the answer
  bool client_left = false;  // before all of the answer was written
};

struct HttpServerOptions {
  int threads = 2;                         // read and write
  int workers = 2;                         // parse, tokenise and plan requests with a body
  std::size_t max_waiting_requests = 128;  // for a worker; further ones get 503
  // For one more, the connection that has been idle for longest is closed, or one that has been
  // reading or writing without an end for over crowded_timeout. Where all are busy, /healthz,
  // /readyz and /metrics are answered all the same, and the rest gets 503.
  std::size_t max_connections = 256;
  std::size_t max_connections_per_peer = 64;  // of another machine
  // Bodies of over 64 KiB that are being received or wait for a worker; further ones get 503.
  std::size_t max_body_memory = 128 << 20;
  std::size_t max_header_bytes = 32 << 10;
  std::size_t max_body_bytes = 8 << 20;
  absl::Duration header_timeout = absl::Seconds(30);  // from its first byte to the end of a head
  absl::Duration idle_timeout = absl::Seconds(75);    // between requests
  absl::Duration body_timeout = absl::Seconds(60);
  absl::Duration write_timeout = absl::Seconds(60);  // for a client that does not read
  absl::Duration crowded_timeout = absl::Seconds(2);
  absl::Duration handshake_timeout = absl::Seconds(10);  // of TLS
  // HTTPS with these; outlives the server.
  const Certificates* tls = nullptr;
  // Called after each answer, on the threads that read and write: must not block. May be empty.
  std::function<void(const HttpExchange& exchange)> on_exchange = {};
  bool keep_bodies = false;
};

// HTTP/1.0 and 1.1 on one TCP or Unix-socket address, in TLS where there is a certificate. A Unix
// socket serves this process's own user (and root). Keep-alive and pipelining: requests of a
// connection are answered one after another. While an answer is being made the connection is
// watched, and a client that leaves destroys its job at once.
class HttpServer {
 public:
  // Listens and serves at once. `handler` must outlive the server. Errors name the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const ListenAddress& address,
                                                           const HttpServerOptions& options,
                                                           HttpHandler& handler);
  // Shutdown without grace.
  ~HttpServer();

  // The actual address, with the port the system chose: "127.0.0.1:41233" or "unix:/path".
  std::string address() const;
  // Accepts nothing more, lets running answers finish for `grace`, then ends them with an error and
  // closes all. Returns when every connection is gone.
  void Shutdown(absl::Duration grace);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
