#include "gateway/ingress/allowed_hosts.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

AllowedHosts Hosts(const char* address, const std::vector<std::string>& names = {}) {
  const auto parsed = ParseListenAddress(address);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const auto hosts = AllowedHosts::Create(*parsed, names);
  EXPECT_TRUE(hosts.ok()) << hosts.status();
  return *hosts;
}

TEST(AllowedHosts, TakesAddressesAndLocalNames) {
  const AllowedHosts hosts = Hosts("127.0.0.1:0");
  for (const char* host : {"127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "192.168.1.7:80",
                           "localhost", "localhost:8080", "LocalHost.:1", "tandem.localhost"}) {
    EXPECT_TRUE(hosts.Allows(host)) << host;
  }
}

TEST(AllowedHosts, RefusesNamesThatAPageMayBear) {
  const AllowedHosts hosts = Hosts("127.0.0.1:0");
  for (const char* host : {"evil.example",
                           "evil.example:8080",
                           "127.0.0.1.evil.example",
                           "localhost.evil.example",
                           "notlocalhost",
                           "127.0.0.1:80:80",
                           "127.0.0.1:port",
                           "127.0.0.1:123456",
                           "[::1",
                           "[::1]x",
                           "[127.0.0.1]",
                           "::1",
                           "",
                           ".",
                           ":80",
                           "a b",
                           "127.1",
                           "0x7f000001",
                           "user@127.0.0.1",
                           "127.0.0.1/x",
                           "localhost\t"}) {
    EXPECT_FALSE(hosts.Allows(host)) << host;
  }
}

TEST(AllowedHosts, TakesTheNamesThatAreListed) {
  const AllowedHosts hosts = Hosts("127.0.0.1:0", {"Box.example", "llm"});
  EXPECT_TRUE(hosts.Allows("box.EXAMPLE:443"));
  EXPECT_TRUE(hosts.Allows("llm"));
  EXPECT_FALSE(hosts.Allows("a.llm"));
  EXPECT_TRUE(Hosts("127.0.0.1:0", {"*"}).Allows("anything.example"));
  EXPECT_TRUE(Hosts("unix:/run/x.sock").Allows("anything"));
  const auto address = ParseListenAddress("127.0.0.1:0");
  for (const char* bad : {"", "box:80", "http://box", "a b", "*.example"}) {
    EXPECT_FALSE(AllowedHosts::Create(*address, {bad}).ok()) << bad;
  }
}

TEST(AllowedHosts, KnowsPagesOfItsOwn) {
  EXPECT_TRUE(IsOriginOf("http://127.0.0.1:8080", "127.0.0.1:8080"));
  EXPECT_TRUE(IsOriginOf("https://Box.example", "box.example"));
  for (const char* origin : {"null", "", "http://evil.example", "http://127.0.0.1:80801",
                             "http://127.0.0.1", "127.0.0.1:8080", "file://127.0.0.1:8080"}) {
    EXPECT_FALSE(IsOriginOf(origin, "127.0.0.1:8080")) << origin;
  }
}

}  // namespace
}  // namespace tandem
