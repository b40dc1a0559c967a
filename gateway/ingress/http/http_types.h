#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace tandem {

// HTTP as its handlers see it: no sockets, no framing. The server (http_server.h) does those.

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET"; a HEAD request arrives as GET
  std::string target;  // path and query as sent, percent-encoded
  int version = 11;    // 10: HTTP/1.0
  int host_count = 0;  // Host headers
  std::string host;    // of the URL where one was asked for, else of the header; "" when absent
  std::string origin;
  std::string authorization;  // or "Bearer " and the value of X-Api-Key
  std::string content_type;
  std::string content_encoding;
  std::string cors_method;  // Access-Control-Request-Method, -Headers
  std::string cors_headers;
  // X-Request-Id where it is a plain word, else one made here; the reply has it, too.
  std::string id;
  // What came as traceparent (W3C trace context), once a header.
  std::vector<std::string> traceparents;
  std::string body;  // empty in Refuse
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // further ones
  std::string body;
};

// An answer that takes time. All calls come from one thread at a time; destroying it cancels it.
class HttpJob {
 public:
  struct Progress {
    // In exactly one Progress. Together with `done` it makes a reply of known length, else it opens
    // a stream.
    std::optional<HttpReply> head;
    std::string bytes;  // more of the body
    bool done = false;
  };
  virtual ~HttpJob() = default;
  // What is new; called after each wake, and once at the beginning.
  virtual Progress Poll() = 0;
  // Ends the job with an error, which the next Poll gives; `status` must not be OK.
  virtual void Abort(const absl::Status& status) = 0;
};

// Exactly one of the two.
struct HttpResult {
  std::optional<HttpReply> reply;
  std::unique_ptr<HttpJob> job;
};

// Thread-safe.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Looks at the head of a request before its body is read: a reply here ends it.
  virtual std::optional<HttpReply> Refuse(const HttpRequest& head) = 0;
  // Headers that every answer to this request gets, whoever makes it.
  virtual HttpHeaders HeadersFor(const HttpRequest& head) const = 0;
  // A cheap request that is answered even while there are too many connections.
  virtual bool Essential(const HttpRequest& head) const = 0;
  // Requests with a body come on a thread that may take its time, others must be quick. `wake` may
  // be called from any thread until the job is destroyed. It never blocks.
  virtual HttpResult Handle(HttpRequest request, std::function<void()> wake) = 0;
  // For what the server itself refuses: bad syntax (400), 413, 431, 503.
  virtual HttpReply ErrorReply(int status, const std::string& message) = 0;
};

}  // namespace tandem
