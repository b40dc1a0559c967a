#include "lib/telemetry/metrics_port.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using Protocol = asio::generic::stream_protocol;
using Socket = Protocol::socket;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::string_view kAnyPort = "127.0.0.1:0";
constexpr int kMostConnections = 16;
constexpr std::uint32_t kMostHeadBytes = 8 << 10;
constexpr std::chrono::seconds kExchangeTime{5};
constexpr std::chrono::milliseconds kAcceptPause{100};

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// A web page can make a name of its own mean this machine, and a browser says that name.
bool IsOurHost(std::string_view host) {
  std::string_view name = host.substr(0, host.find(':'));
  if (host.starts_with('[')) name = host.substr(1, host.find(']') - 1);
  boost::system::error_code error;
  asio::ip::make_address(std::string(name), error);
  return !error || name == "localhost";
}

Response Reply(http::status status, std::string body) {
  Response response(status, 11);
  response.set(http::field::server, "tandem");
  response.set(http::field::content_type, status == http::status::ok
                                              ? std::string(kMetricsContentType)
                                              : "text/plain; charset=utf-8");
  response.keep_alive(false);
  response.body() = std::move(body);
  response.prepare_payload();
  return response;
}

Response Answer(const Request& request, bool over_tcp, const std::function<std::string()>& text) {
  if (over_tcp &&
      (request.count(http::field::origin) > 0 || !IsOurHost(View(request[http::field::host])))) {
    return Reply(http::status::forbidden, "web pages are not served\n");
  }
  if (View(request.target()) != "/metrics") return Reply(http::status::not_found, "see /metrics\n");
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    return Reply(http::status::method_not_allowed, "expected GET\n");
  }
  return Reply(http::status::ok, text());
}

}  // namespace

struct MetricsPort::Impl {
  explicit Impl(std::function<std::string()> source) : text(std::move(source)) {}

  absl::Status Open(const ListenAddress& where);
  asio::awaitable<void> AcceptLoop();
  asio::awaitable<void> Serve(Socket socket);

  const std::function<std::string()> text;
  ListenAddress address;
  int connections = 0;
  asio::io_context io{1};
  asio::basic_socket_acceptor<Protocol> acceptor{io};
  std::thread thread;
};

absl::Status MetricsPort::Impl::Open(const ListenAddress& where) {
  address = where;
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Listen(&address));
  boost::system::error_code error;
  const Protocol protocol =
      address.is_unix()
          ? Protocol(AF_UNIX, 0)
          : Protocol(asio::ip::make_address(address.ip, error).is_v6() ? tcp::v6() : tcp::v4());
  if (acceptor.assign(protocol, fd.get(), error)) return absl::UnavailableError(error.message());
  fd.Release();
  asio::co_spawn(io, AcceptLoop(), asio::detached);
  return absl::OkStatus();
}

asio::awaitable<void> MetricsPort::Impl::AcceptLoop() {
  asio::steady_timer pause(io);
  while (true) {
    auto [error, socket] = co_await acceptor.async_accept(kToken);
    if (!error && connections < kMostConnections) {
      asio::co_spawn(io, Serve(std::move(socket)), asio::detached);
      continue;
    }
    // One too many is closed by going out of scope. No descriptor left: others end meanwhile.
    if (!error) continue;
    pause.expires_after(kAcceptPause);
    co_await pause.async_wait(kToken);
  }
}

asio::awaitable<void> MetricsPort::Impl::Serve(Socket socket) {
  struct Count {
    explicit Count(int* count) : count_(count) { ++*count_; }
    ~Count() { --*count_; }
    int* count_;
  } const count(&connections);
  beast::basic_stream<asio::generic::stream_protocol> stream(std::move(socket));
  stream.expires_after(kExchangeTime);
  beast::flat_buffer buffer(kMostHeadBytes + 1024);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(kMostHeadBytes);
  const auto [read_error, read] = co_await http::async_read_header(stream, buffer, parser, kToken);
  if (read_error) co_return;
  const Response response = Answer(parser.get(), !address.is_unix(), text);
  if (parser.get().method() == http::verb::head) {
    http::response_serializer<http::string_body> serializer(response);
    co_await http::async_write_header(stream, serializer, kToken);
  } else {
    co_await http::async_write(stream, response, kToken);
  }
  boost::system::error_code ignored;
  stream.socket().shutdown(asio::socket_base::shutdown_both, ignored);
}

MetricsPort::MetricsPort(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

MetricsPort::~MetricsPort() {
  impl_->io.stop();
  impl_->thread.join();
  if (impl_->address.is_unix()) ::unlink(impl_->address.unix_path.c_str());
}

absl::StatusOr<std::unique_ptr<MetricsPort>> MetricsPort::Start(const ListenAddress& address,
                                                                std::function<std::string()> text) {
  auto impl = std::make_unique<Impl>(std::move(text));
  TANDEM_RETURN_IF_ERROR(impl->Open(address));
  impl->thread = std::thread([&io = impl->io] { io.run(); });
  return std::unique_ptr<MetricsPort>(new MetricsPort(std::move(impl)));
}

std::string MetricsPort::address() const { return impl_->address.ToString(); }

absl::StatusOr<std::unique_ptr<MetricsPort>> StartMetricsPort(const std::string& flag_value,
                                                              const WatchSettings& settings,
                                                              std::function<std::string()> text) {
  if (flag_value.empty() && !settings.process_metrics) return nullptr;
  TANDEM_ASSIGN_OR_RETURN(
      const ListenAddress address,
      InnerListenAddress("--metrics", flag_value.empty() ? kAnyPort : flag_value));
  absl::StatusOr<std::unique_ptr<MetricsPort>> port = MetricsPort::Start(address, std::move(text));
  if (!port.ok()) return Annotate(port.status(), "--metrics");
  return port;
}

}  // namespace tandem
