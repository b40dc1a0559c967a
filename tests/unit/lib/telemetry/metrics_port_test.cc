#include "lib/telemetry/metrics_port.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <vector>

#include "lib/base/fd.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::unique_ptr<MetricsPort> StartPort(const std::string& where = "127.0.0.1:0") {
  auto port = StartMetricsPort(where, {}, [] { return std::string("up 1\n"); });
  EXPECT_TRUE(port.ok()) << port.status();
  return *std::move(port);
}

UniqueFd Connect(const MetricsPort& port) {
  const auto address = ParseListenAddress(port.address());
  EXPECT_TRUE(address.ok());
  if (address->is_unix()) {
    auto fd = ConnectUnix(address->unix_path, absl::Seconds(5));
    EXPECT_TRUE(fd.ok()) << fd.status();
    return *std::move(fd);
  }
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(address->port);
  ::inet_pton(AF_INET, "127.0.0.1", &peer.sin_addr);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)), 0);
  return fd;
}

// Until the port closes the connection.
std::string ReadAll(const UniqueFd& fd) {
  std::string all;
  char part[4096];
  for (ssize_t got = 0; (got = ::recv(fd.get(), part, sizeof(part), 0)) > 0;)
    all.append(part, static_cast<std::size_t>(got));
  return all;
}

std::string Ask(const MetricsPort& port, const std::string& request) {
  const UniqueFd fd = Connect(port);
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  return ReadAll(fd);
}

TEST(MetricsPort, ShowsThePage) {
  const auto port = StartPort();
  const std::string reply = Ask(*port, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(reply, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(reply, HasSubstr("\r\n\r\nup 1\n"));
  const std::string head = Ask(*port, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
}

TEST(MetricsPort, HasNothingElse) {
  const auto port = StartPort();
  EXPECT_THAT(Ask(*port, "GET / HTTP/1.1\r\nHost: [::1]:9\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask(*port, "DELETE /metrics HTTP/1.1\r\nHost: localhost:9\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
}

TEST(MetricsPort, RefusesWhatAWebPageMakesABrowserAsk) {
  const auto port = StartPort();
  EXPECT_THAT(Ask(*port, "GET /metrics HTTP/1.1\r\nHost: evil.example:1\r\n\r\n"),
              StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(Ask(*port, "GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(
      Ask(*port, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://a.example\r\n\r\n"),
      StartsWith("HTTP/1.1 403"));
}

TEST(MetricsPort, ClosesOnWhatIsNoRequest) {
  const auto port = StartPort();
  EXPECT_EQ(Ask(*port, "no such thing\r\n\r\n"), "");
  EXPECT_EQ(Ask(*port, "GET /metrics HTTP/1.1\r\nX: " + std::string(9000, 'x')), "");
  EXPECT_THAT(Ask(*port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

// Connections that send nothing hold places only for a few seconds, and never more than there are.
TEST(MetricsPort, BoundsConnections) {
  const auto port = StartPort();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 16; ++i) silent.push_back(Connect(*port));
  const UniqueFd one_more = Connect(*port);
  EXPECT_EQ(ReadAll(one_more), "") << "closed at once";
  for (const UniqueFd& fd : silent) EXPECT_EQ(ReadAll(fd), "") << "closed after its time";
  EXPECT_THAT(Ask(*port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

TEST(MetricsPort, ListensOnAUnixSocket) {
  char folder[] = "/tmp/tandem-metrics-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/metrics.sock";
  {
    const auto port = StartPort("unix:" + path);
    EXPECT_THAT(Ask(*port, "GET /metrics HTTP/1.1\r\nHost: tandem\r\n\r\n"),
                StartsWith("HTTP/1.1 200"));
    EXPECT_EQ(port->address(), "unix:" + path);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "the socket is gone with the port";
  ::rmdir(folder);
}

TEST(MetricsPort, RefusesAddressesThatOthersReach) {
  const auto text = [] { return std::string(); };
  EXPECT_TRUE(absl::IsInvalidArgument(StartMetricsPort("0.0.0.0:0", {}, text).status()));
  const auto none = StartMetricsPort("", {}, text);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, nullptr);
  const auto port = StartPort();
  const auto taken = StartMetricsPort(port->address(), {}, text);
  EXPECT_TRUE(absl::IsUnavailable(taken.status())) << taken.status();
  EXPECT_THAT(std::string(taken.status().message()), StartsWith("--metrics: cannot listen on"));
}

}  // namespace
}  // namespace tandem
