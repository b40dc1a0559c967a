// What a key may do and how much of it, over HTTP.

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

class HttpKeys : public IngressFixture {
 protected:
  HttpKeys() {
    ApiKeyRule one;
    one.name = "one";
    one.sha256 = HashApiKey("one");
    one.scopes = static_cast<std::uint8_t>(KeyScope::kInference);
    one.requests = 1;
    ApiKeyRule few = one;
    few.name = "few";
    few.sha256 = HashApiKey("few");
    few.requests = 0;
    few.tokens_per_minute = 2;
    ApiKeyRule watch = few;
    watch.name = "watch";
    watch.sha256 = HashApiKey("watch");
    watch.scopes = static_cast<std::uint8_t>(KeyScope::kMetrics);
    keys_ = ApiKeys::FromRules({one, few, watch});
  }
  static std::string Showing(const std::string& key) {
    return "Authorization: Bearer " + key + "\r\n";
  }
};

TEST_F(HttpKeys, EachScopeOpensItsPaths) {
  Start();
  EXPECT_EQ(Ask("GET", "/v1/models", "", Showing("one")).status, 200);
  EXPECT_EQ(Ask("GET", "/metrics", "", Showing("watch")).status, 200);
  const TestReply refused = Ask("GET", "/metrics", "", Showing("one"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.Json()["error"]["code"], "permission_denied");
  EXPECT_EQ(Ask("GET", "/v1/models", "", Showing("watch")).status, 403);
  EXPECT_EQ(Ask("GET", "/metrics").status, 401);
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
}

TEST_F(HttpKeys, RequestsAtATimeAreCountedUntilTheyEnd) {
  Start();
  HttpTestClient first = Connect();
  first.SendRequest("POST", "/v1/completions", CompletionBody(), Showing("one"));
  engine_.WaitForRequest(1);
  const TestReply refused = Ask("POST", "/v1/completions", CompletionBody(), Showing("one"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(first.Read().status, 200);
  // On the connection that was answered the request has ended.
  first.SendRequest("POST", "/v1/completions", CompletionBody(), Showing("one"));
  engine_.WaitForRequest(2);
  // One that leaves makes room, too.
  first.Close();
  engine_.WaitForCancel(2);
}

TEST_F(HttpKeys, TokensOfPromptAndAnswerAreCharged) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/completions", CompletionBody(), Showing("few"));
  engine_.WaitForRequest(1);
  engine_.Tokens(1, {Id("!"), Id("!"), Id("!"), Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
  client.SendRequest("POST", "/v1/completions", CompletionBody(), Showing("few"));
  const TestReply refused = client.Read();
  EXPECT_EQ(refused.status, 429);
  EXPECT_GT(std::stoi(refused.headers.at("retry-after")), 30);
  EXPECT_EQ(refused.Json()["error"]["code"], "rate_limit_exceeded");
}

}  // namespace
}  // namespace tandem
