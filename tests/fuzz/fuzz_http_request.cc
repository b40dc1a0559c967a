// Bytes of HTTP clients, through the server as it runs: whatever comes, it answers with whole heads
// whose lines it wrote itself, or not at all, and then closes.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ingress/allowed_hosts.h"
#include "gateway/ingress/cors.h"
#include "gateway/ingress/http/http_server.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

// Every page may ask, so that what it sends comes back in headers.
class Handler final : public HttpHandler {
 public:
  Handler() {
    auto cors = CorsRules::Create({"*"});
    TANDEM_CHECK(cors.ok());
    cors_ = *std::move(cors);
  }
  std::optional<HttpReply> Refuse(const HttpRequest& head) override {
    if (CorsRules::IsPreflight(head)) return CorsRules::PreflightReply(head);
    if (HostNameOf(head.host).empty()) return ErrorReply(403, "host");
    return std::nullopt;
  }
  HttpHeaders HeadersFor(const HttpRequest& head) const override {
    return cors_.HeadersFor(head.origin);
  }
  bool Essential(const HttpRequest&) const override { return true; }
  HttpResult Handle(HttpRequest request, std::function<void()>) override {
    HttpReply reply;
    reply.body = std::to_string(request.body.size());
    return {.reply = std::move(reply), .job = nullptr};
  }
  HttpReply ErrorReply(int status, const std::string&) override {
    HttpReply reply;
    reply.status = status;
    reply.body = "{}";
    return reply;
  }

 private:
  CorsRules cors_;
};

struct Server {
  Handler handler;
  std::string path;
  std::unique_ptr<HttpServer> http;
};

const Server& Running() {
  static Server* const server = [] {
    auto* made = new Server;
    char folder[] = "/tmp/tandem-fuzz-XXXXXX";
    TANDEM_CHECK(mkdtemp(folder) != nullptr);
    made->path = std::string(folder) + "/http";
    ListenAddress address;
    address.unix_path = made->path;
    address.loopback = true;
    HttpServerOptions options;
    options.threads = 1;
    options.workers = 1;
    options.max_body_bytes = 1 << 16;
    auto http = HttpServer::Start(address, options, made->handler);
    TANDEM_CHECK(http.ok());
    made->http = *std::move(http);
    std::atexit(
        [] { std::filesystem::remove_all(std::filesystem::path(Running().path).parent_path()); });
    return made;
  }();
  return *server;
}

// Names of headers that the server, the handler and CORS write.
bool IsOurs(std::string_view line) {
  for (const std::string_view name :
       {"Server: ", "Date: ", "Content-Type: ", "Content-Length: ", "Connection: ", "Retry-After: ",
        "Access-Control-", "Vary: Origin", "X-Request-Id: "}) {
    if (line.starts_with(name)) return true;
  }
  return false;
}

// The head of the first answer: a status line, and then lines of ours.
void CheckHead(std::string_view answer) {
  if (answer.empty()) return;
  TANDEM_CHECK(answer.starts_with("HTTP/1.1 "));
  const std::size_t end = answer.find("\r\n\r\n");
  TANDEM_CHECK(end != std::string_view::npos);
  std::string_view head = answer.substr(0, end + 2);
  head.remove_prefix(head.find("\r\n") + 2);
  while (!head.empty()) {
    const std::size_t line_end = head.find("\r\n");
    const std::string_view line = head.substr(0, line_end);
    TANDEM_CHECK(IsOurs(line) && line.find_first_of(std::string_view("\r\n\0", 3)) == line.npos);
    head.remove_prefix(line_end + 2);
  }
}

}  // namespace
}  // namespace tandem

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto& server = tandem::Running();
  const auto socket = tandem::ConnectUnix(server.path, absl::Seconds(20));
  TANDEM_CHECK(socket.ok());
  send(socket->get(), data, size, MSG_NOSIGNAL);
  shutdown(socket->get(), SHUT_WR);
  std::string answer;
  char buffer[4096];
  while (true) {
    pollfd entry{socket->get(), POLLIN, 0};
    // The input has ended: it answers and closes, or closes. The fuzzer's own alarm interrupts.
    const int ready = poll(&entry, 1, 15'000);
    if (ready < 0 && errno == EINTR) continue;
    TANDEM_CHECK(ready == 1);
    const ssize_t got = recv(socket->get(), buffer, sizeof(buffer), 0);
    if (got <= 0) break;
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  tandem::CheckHead(answer);
  return 0;
}
