// What an access log gets to know, and the ids of requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using ::testing::StartsWith;

class HttpAccess : public IngressFixture {
 protected:
  HttpAccess() {
    options_.on_exchange = [this](const HttpExchange& exchange) {
      const std::lock_guard<std::mutex> lock(mutex_);
      seen_.push_back(exchange);
      changed_.notify_all();
    };
  }
  // The exchange after those that were taken before.
  HttpExchange Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::minutes(1), [this] { return seen_.size() > taken_; }));
    return seen_.at(taken_++);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<HttpExchange> seen_;
  std::size_t taken_ = 0;
};

TEST_F(HttpAccess, EveryAnswerIsToldOnce) {
  Start();
  const TestReply reply = Ask("GET", "/healthz?secret=1", "", "X-Request-Id: mine-7\r\n");
  EXPECT_EQ(reply.headers.at("x-request-id"), "mine-7");
  const HttpExchange health = Next();
  EXPECT_EQ(health.id, "mine-7");
  EXPECT_EQ(health.method, "GET");
  EXPECT_EQ(health.path, "/healthz") << "no query: it may hold what is private";
  EXPECT_EQ(health.status, 200);
  EXPECT_GT(health.reply_bytes, reply.body.size());
  EXPECT_GE(health.time, absl::ZeroDuration());
  EXPECT_FALSE(health.client_left);
  Ask("GET", "/nowhere");
  EXPECT_EQ(Next().status, 404);
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions", ChatBody(R"("stream":true,"max_tokens":3)"));
  engine_.Tokens(1, {Id("Hello")});
  engine_.Finish(1, FinishReason::kStop);
  const HttpExchange chat = Next();
  EXPECT_EQ(chat.status, 200);
  EXPECT_EQ(chat.body, "") << "what people write is not kept unless it is asked for";
  EXPECT_THAT(chat.id, StartsWith("req_"));
}

TEST_F(HttpAccess, WhoClosesAfterTheAnswerHasStayedAndWhoClosesBeforeHasLeft) {
  Start();
  // Clients without keep-alive close at once, often before the server has taken note of its own
  // last write.
  for (std::uint64_t request = 1; request <= 20; ++request) {
    HttpTestClient client = Connect();
    client.SendRequest("POST", "/v1/chat/completions", ChatBody(R"("max_tokens":1)"));
    engine_.Finish(request, FinishReason::kLength);
    EXPECT_EQ(client.Read().status, 200);
    client.Close();
    EXPECT_FALSE(Next().client_left) << request;
  }
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions", ChatBody(R"("stream":true)"));
  engine_.Tokens(21, {Id("Hello")});
  client.ReadHead();
  client.Close();
  EXPECT_TRUE(Next().client_left);
}

TEST_F(HttpAccess, BodiesAreKeptWhereTheyAreAskedFor) {
  options_.keep_bodies = true;
  Start();
  const std::string body = ChatBody(R"("max_tokens":1)");
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions", body);
  engine_.Finish(1, FinishReason::kLength);
  EXPECT_EQ(Next().body, body);
}

TEST_F(HttpAccess, AnIdThatCouldDoHarmIsNotTakenOver) {
  Start();
  for (const std::string& id :
       {std::string("a b"), std::string(65, 'x'), std::string("<script>"), std::string("\"}")}) {
    const TestReply reply = Ask("GET", "/healthz", "", "X-Request-Id: " + id + "\r\n");
    EXPECT_THAT(reply.headers.at("x-request-id"), StartsWith("req_")) << id;
  }
}

TEST_F(HttpAccess, WhatIsNoRequestIsToldWithoutAName) {
  Start();
  HttpTestClient client = Connect();
  client.Send("no such thing\r\n\r\n");
  EXPECT_EQ(client.Read().status, 400);
  const HttpExchange exchange = Next();
  EXPECT_EQ(exchange.status, 400);
  EXPECT_EQ(exchange.method, "");
}

// A connection that ends between two requests is no exchange.
TEST_F(HttpAccess, SilenceIsNotTold) {
  Start();
  { HttpTestClient client = Connect(); }
  Ask("GET", "/healthz");
  Next();
  const std::lock_guard<std::mutex> lock(mutex_);
  EXPECT_EQ(seen_.size(), 1u);
}

}  // namespace
}  // namespace tandem
