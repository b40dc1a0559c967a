#include "lib/service/listen_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "lib/base/fd.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(ListenAddress, ParsesTheThreeForms) {
  auto address = ParseListenAddress("127.0.0.1:80");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->port, 80);
  EXPECT_TRUE(address->loopback);
  EXPECT_EQ(address->ToString(), "127.0.0.1:80");
  address = ParseListenAddress("[::1]:0");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->loopback);
  EXPECT_EQ(address->ToString(), "[::1]:0");
  address = ParseListenAddress("unix:/run/x.sock");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->ToString(), "unix:/run/x.sock");
  EXPECT_TRUE(address->loopback);
}

TEST(ListenAddress, RefusesWhatIsNoAddress) {
  for (const char* bad : {"", "8080", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536",
                          "127.0.0.1:-1", "127.0.0.1:+1", "::1:80", "unix:", "unix:x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseListenAddress(bad).status())) << bad;
  }
}

TEST(ListenAddress, OnlyLoopbackGoesWithoutKeyAndTls) {
  const PortGuards none;
  const PortGuards all{.api_key = true, .tls = true};
  for (const char* open : {"0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"}) {
    const absl::Status status = CheckedListenAddress("--http", open, none).status();
    EXPECT_TRUE(absl::IsPermissionDenied(status)) << open << " " << status;
    for (const char* word : {"--http", "--api_key_file", "--tls_cert", "--insecure"})
      EXPECT_NE(status.message().find(word), absl::string_view::npos) << word;
    EXPECT_FALSE(CheckedListenAddress("--http", open, {.api_key = true}).ok()) << open;
    EXPECT_FALSE(CheckedListenAddress("--http", open, {.tls = true}).ok()) << open;
    EXPECT_TRUE(CheckedListenAddress("--http", open, all).ok()) << open;
    EXPECT_TRUE(CheckedListenAddress("--http", open, {.insecure = true}).ok()) << open;
  }
  for (const char* local : {"127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "unix:/x"}) {
    EXPECT_TRUE(CheckedListenAddress("--http", local, none).ok()) << local;
  }
}

TEST(ListenAddress, InnerPortsAreOnLoopbackAlone) {
  for (const char* good :
       {"unix:/run/x", "127.0.0.1:0", "127.1.2.3:80", "localhost:5", "[::1]:0"}) {
    EXPECT_TRUE(InnerListenAddress("--listen", good).ok()) << good;
  }
  for (const char* bad :
       {"0.0.0.0:1", "192.168.1.1:1", "unix:", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000",
        "127.example.org:1", "127.0.0.1.evil.org:1", "[::]:1", "::1:1", "127.0.0.1:x", ""}) {
    const absl::Status status = InnerListenAddress("--listen", bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--listen: expected unix:/path or a"));
  }
}

TEST(ListenAddress, ATakenPortIsSaidWithTheSystemsReason) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(where);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), size), 0);
  ASSERT_EQ(::listen(socket.get(), 1), 0);
  ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
  const std::string text = "127.0.0.1:" + std::to_string(ntohs(where.sin_port));
  const absl::Status status = CheckCanListen(*ParseListenAddress(text));
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(std::string(status.message()), "cannot listen on " + text + ": Address already in use");
  EXPECT_TRUE(CheckCanListen(*ParseListenAddress("127.0.0.1:0")).ok());
  EXPECT_THAT(std::string(CheckCanListen(*ParseListenAddress("192.0.2.1:0")).message()),
              HasSubstr("Cannot assign requested address"));
}

TEST(ListenAddress, ListensWhereItSays) {
  for (const char* text : {"127.0.0.1:0", "[::1]:0"}) {
    ListenAddress address = *ParseListenAddress(text);
    const auto socket = Listen(&address);
    ASSERT_TRUE(socket.ok()) << socket.status();
    EXPECT_NE(address.port, 0) << text;
    const absl::Status taken = Listen(&address).status();
    EXPECT_EQ(std::string(taken.message()),
              "cannot listen on " + address.ToString() + ": Address already in use");
    // Nobody has connected: it does not wait for somebody.
    EXPECT_EQ(::accept(socket->get(), nullptr, nullptr), -1);
    EXPECT_EQ(errno, EAGAIN);
  }
  const std::string path = ::testing::TempDir() + "tandem-listen-" + std::to_string(::getpid());
  ListenAddress address = *ParseListenAddress("unix:" + path);
  const auto socket = Listen(&address);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_TRUE(ConnectUnix(path, absl::Seconds(1)).ok());
  EXPECT_THAT(std::string(Listen(&address).status().message()),
              HasSubstr("cannot listen on unix:" + path + ": "));
  ::unlink(path.c_str());
}

TEST(ListenAddress, ATakenUnixSocket) {
  const std::string path = ::testing::TempDir() + "tandem-taken-" + std::to_string(::getpid());
  const ListenAddress address = *ParseListenAddress("unix:" + path);
  EXPECT_TRUE(CheckCanListen(address).ok());
  const auto socket = ListenUnix(path);
  ASSERT_TRUE(socket.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(CheckCanListen(address)));
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace tandem
