#include "gateway/ingress/cors.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

constexpr char kApp[] = "https://app.example:8443";

TEST(CorsRules, TakesOriginsOnly) {
  for (const char* good : {"*", kApp, "http://localhost:3000", "app://obsidian.md", "http://[::1]",
                           "vscode-webview://abc123"}) {
    EXPECT_TRUE(CorsRules::Create({good}).ok()) << good;
  }
  for (const char* bad : {"", "null", "app.example", "https://", "://x", "https://a/b",
                          "https://a b", "https://a\r\nX: y", "https://*.example"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CorsRules::Create({bad}).status())) << bad;
  }
}

class CorsTest : public IngressFixture {
 protected:
  void Allow(const std::vector<std::string>& origins) {
    const auto hosts = AllowedHosts::Create(*ParseListenAddress("127.0.0.1:0"), {});
    ASSERT_TRUE(hosts.ok());
    router_.SetHosts(*hosts);
    const auto rules = CorsRules::Create(origins);
    ASSERT_TRUE(rules.ok());
    router_.SetCors(*rules);
    Start();
  }
  TestReply Preflight(const std::string& origin, const std::string& more = "") {
    return Ask("OPTIONS", "/v1/chat/completions", "",
               "Origin: " + origin + "\r\nAccess-Control-Request-Method: POST\r\n" + more);
  }
};

TEST_F(CorsTest, OffByDefault) {
  Allow({});
  EXPECT_EQ(Preflight(kApp).status, 403);
  const TestReply reply = Ask("GET", "/v1/models", "", std::string("Origin: ") + kApp + "\r\n");
  EXPECT_EQ(reply.status, 403);
  EXPECT_FALSE(reply.headers.contains("access-control-allow-origin"));
}

TEST_F(CorsTest, AListedPageMayAskAndOthersMayNot) {
  keys_ = *ApiKeys::Create({"secret"});
  Allow({kApp});
  const TestReply preflight =
      Preflight(kApp, "Access-Control-Request-Headers: authorization, content-type, x-a, b@d\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), kApp);
  EXPECT_EQ(preflight.headers.at("access-control-allow-headers"),
            "authorization, content-type, x-a");
  EXPECT_EQ(preflight.headers.at("vary"), "Origin");
  EXPECT_FALSE(preflight.headers.contains("access-control-allow-credentials"));
  EXPECT_FALSE(preflight.headers.contains("content-length"));
  EXPECT_EQ(Preflight("https://app.example").status, 403);
  EXPECT_EQ(Preflight("null").status, 403);
  // The page may read what it is told, errors too.
  const std::string origin = std::string("Origin: ") + kApp + "\r\n";
  const TestReply refused = Ask("GET", "/v1/models", "", origin);
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.at("access-control-allow-origin"), kApp);
  const TestReply good = Ask("GET", "/v1/models", "", origin + "Authorization: Bearer secret\r\n");
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(good.headers.at("access-control-allow-origin"), kApp);
}

TEST_F(CorsTest, AStreamToAPageSaysSoToo) {
  Allow({kApp});
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/completions", CompletionBody(R"("stream":true)"),
                     std::string("Origin: ") + kApp + "\r\n");
  engine_.WaitForRequest(1);
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.ReadHead().headers.at("access-control-allow-origin"), kApp);
}

TEST_F(CorsTest, TheHostIsCheckedAllTheSame) {
  Allow({"*"});
  EXPECT_EQ(Preflight("https://anything.example").status, 204);
  EXPECT_EQ(Preflight("null").status, 204);
  HttpTestClient client = Connect();
  client.Send("OPTIONS /v1/models HTTP/1.1\r\nHost: evil.example\r\nOrigin: " + std::string(kApp) +
              "\r\nAccess-Control-Request-Method: GET\r\n\r\n");
  EXPECT_EQ(client.Read().status, 403);
}

TEST_F(CorsTest, AnOptionsRequestThatIsNoPreflightIsNothing) {
  Allow({kApp});
  EXPECT_EQ(Ask("OPTIONS", "/v1/models").status, 405);
}

TEST_F(CorsTest, AnswersToTheSamePageOrNoneSayNothing) {
  Allow({kApp});
  EXPECT_FALSE(Ask("GET", "/v1/models").headers.contains("access-control-allow-origin"));
}

}  // namespace
}  // namespace tandem
