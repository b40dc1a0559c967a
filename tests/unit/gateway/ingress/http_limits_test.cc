// Clients that mean harm: web pages of other places, idle and slow connections, answers too large.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

class HttpLimits : public IngressFixture {
 protected:
  int Post(std::string_view headers) {
    HttpTestClient client = Connect();
    const std::string body = CompletionBody(R"("max_tokens":0)");
    client.Send("POST /v1/completions HTTP/1.1\r\n" + std::string(headers) +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return client.Read().status;
  }
  int Get(std::string_view start, std::string_view headers) {
    HttpTestClient client = Connect();
    client.Send(std::string(start) + "\r\n" + std::string(headers) + "\r\n");
    return client.Read().status;
  }
};

constexpr char kJson[] = "Content-Type: application/json\r\n";

TEST_F(HttpLimits, APostMustSayThatItIsJson) {
  Start();
  const std::string host = "Host: 127.0.0.1\r\n";
  EXPECT_EQ(Post(host + kJson), 200);
  EXPECT_EQ(Post(host + "Content-Type: Application/JSON; charset=utf-8\r\n"), 200);
  EXPECT_EQ(Post(host), 415);
  // What a web page can send without asking first.
  for (const char* type : {"text/plain", "text/plain; application/json", "multipart/form-data",
                           "application/x-www-form-urlencoded", "application/jsonp"}) {
    EXPECT_EQ(Post(host + "Content-Type: " + type + "\r\n"), 415) << type;
  }
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(HttpLimits, HostMustBeANameOfTheServer) {
  Start();
  EXPECT_EQ(Post(std::string("Host: localhost:8080\r\n") + kJson), 200);
  EXPECT_EQ(Post(std::string("Host: evil.example:8080\r\n") + kJson), 403);
  EXPECT_EQ(Post(std::string("Host: localhost\r\nHost: evil.example\r\n") + kJson), 400);
  EXPECT_EQ(Post(kJson), 400);
  EXPECT_EQ(Get("GET /v1/models HTTP/1.1", "Host: evil.example\r\n"), 403);
  EXPECT_EQ(Get("GET /healthz HTTP/1.1", "Host: evil.example\r\n"), 403);
  EXPECT_EQ(Get("GET /metrics HTTP/1.1", ""), 400);
  // HTTP/1.0 knows no Host, and no browser speaks it; where there is one it counts.
  EXPECT_EQ(Get("GET /healthz HTTP/1.0", ""), 200);
  EXPECT_EQ(Get("GET /healthz HTTP/1.0", "Host: evil.example\r\n"), 403);
}

TEST_F(HttpLimits, ListedHostsAreNamesOfTheServer) {
  const auto address = ParseListenAddress("127.0.0.1:0");
  auto hosts = AllowedHosts::Create(*address, {"box.example"});
  ASSERT_TRUE(hosts.ok());
  router_.SetHosts(*std::move(hosts));
  Start();
  EXPECT_EQ(Post(std::string("Host: box.example\r\n") + kJson), 200);
  EXPECT_EQ(Post(std::string("Host: evil.example\r\n") + kJson), 403);
}

TEST_F(HttpLimits, PagesOfOtherPlacesAreNotServed) {
  Start();
  const std::string host = "Host: 127.0.0.1:8080\r\n";
  EXPECT_EQ(Post(host + "Origin: http://evil.example\r\n" + kJson), 403);
  EXPECT_EQ(Post(host + "Origin: null\r\n" + kJson), 403);
  EXPECT_EQ(Post(host + "Origin: http://127.0.0.1:9090\r\n" + kJson), 403);
  EXPECT_EQ(Post(host + "Origin: http://127.0.0.1:8080\r\n" + kJson), 200);
  EXPECT_EQ(Get("OPTIONS /v1/completions HTTP/1.1", host + "Origin: http://evil.example\r\n"), 403);
}

TEST_F(HttpLimits, ACompressedBodyIs415AndSaysSo) {
  Start();
  const TestReply reply =
      Ask("POST", "/v1/completions", "\x1f\x8b\x08", "Content-Encoding: gzip\r\n");
  EXPECT_EQ(reply.status, 415);
  EXPECT_NE(reply.Json()["error"]["message"].get<std::string>().find("Content-Encoding: gzip"),
            std::string::npos);
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(R"("max_tokens":0)"),
                "Content-Encoding: identity\r\n")
                .status,
            200);
}

TEST_F(HttpLimits, IdleConnectionsMakeRoom) {
  options_.max_connections = 4;
  Start();
  std::vector<HttpTestClient> idle;
  for (int i = 0; i < 40; ++i) {
    idle.push_back(Connect());
    EXPECT_EQ(Ask("GET", "/healthz").status, 200) << i;
  }
  EXPECT_TRUE(idle.front().ReadToEnd());
  // A half-sent head or body gives way too, once it has had crowded_timeout.
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(R"("max_tokens":0)")).status, 200);
}

TEST_F(HttpLimits, SlowRequestsMakeRoom) {
  options_.max_connections = 2;
  options_.crowded_timeout = absl::ZeroDuration();
  Start();
  HttpTestClient head = Connect();
  head.Send("GET /healthz HT");
  HttpTestClient body = Connect();
  body.Send(std::string("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n") + kJson +
            "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(body.ReadHead().status, 100);
  std::vector<HttpTestClient> busy;
  for (std::uint64_t i = 1; i <= 2; ++i) {
    busy.push_back(Connect());
    busy.back().SendRequest("POST", "/v1/completions", CompletionBody());
    engine_.WaitForRequest(i);
  }
  EXPECT_TRUE(head.ReadToEnd());
  EXPECT_TRUE(body.ReadToEnd());
  busy.clear();
  for (std::uint64_t i = 1; i <= 2; ++i) engine_.WaitForCancel(i);
}

TEST_F(HttpLimits, HealthIsAnsweredWhileAllConnectionsAreBusy) {
  options_.max_connections = 2;
  Start();
  std::vector<HttpTestClient> busy;
  for (std::uint64_t i = 1; i <= 2; ++i) {
    busy.push_back(Connect());
    busy.back().SendRequest("POST", "/v1/completions", CompletionBody(), "Connection: close\r\n");
    engine_.WaitForRequest(i);
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  const TestReply refused = Ask("POST", "/v1/completions", CompletionBody());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(busy.front().Read().status, 200);
  EXPECT_TRUE(busy.front().ReadToEnd());
  EXPECT_EQ(Ask("GET", "/v1/models").status, 200);
  busy.clear();
  engine_.WaitForCancel(2);
}

TEST_F(HttpLimits, LargeBodiesAreBoundedTogether) {
  options_.max_body_memory = 3 << 20;
  options_.crowded_timeout = absl::Hours(1);
  Start();
  const auto begin = [this] {
    HttpTestClient client = Connect();
    client.Send(std::string("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n") + kJson +
                "Expect: 100-continue\r\nContent-Length: 1048576\r\n\r\n");
    return client;
  };
  std::vector<HttpTestClient> senders;
  for (int i = 0; i < 3; ++i) {
    senders.push_back(begin());
    EXPECT_EQ(senders.back().ReadHead().status, 100);
  }
  HttpTestClient fourth = begin();
  EXPECT_EQ(fourth.Read().status, 503);
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(R"("max_tokens":0)")).status, 200);
  // Whoever ends gives its part back.
  senders.front().Send(std::string(1 << 20, ' '));
  EXPECT_EQ(senders.front().Read().status, 400);
  HttpTestClient fifth = begin();
  EXPECT_EQ(fifth.ReadHead().status, 100);
}

TEST_F(HttpLimits, APromptThatIsFarTooLongIsRefusedUnread) {
  Start();
  const std::string text((8 << 20) - 1000, ' ');
  const TestReply chat =
      Ask("POST", "/v1/chat/completions",
          R"({"model":"m","messages":[{"role":"user","content":"x)" + text + R"(x"}]})");
  EXPECT_EQ(chat.status, 400);
  EXPECT_EQ(chat.Json()["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(chat.Json()["error"]["param"], "messages");
  const TestReply completion =
      Ask("POST", "/v1/completions", R"({"model":"m","prompt":")" + text + R"("})");
  EXPECT_EQ(completion.Json()["error"]["code"], "context_length_exceeded");
}

// 450 prompt tokens, 21 entries each, 128 choices: 100 MiB.
TEST_F(HttpLimits, EchoedLogprobsAreBounded) {
  Start();
  const std::string prompt = R"("prompt":")" + std::string(450, '#') + R"(","echo":true)";
  const TestReply reply = Ask("POST", "/v1/completions",
                              CompletionBody(prompt + R"(,"logprobs":20,"n":128,"max_tokens":0)"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.Json()["error"]["param"], "echo");
  EXPECT_NE(reply.Json()["error"]["message"].get<std::string>().find("16 MiB"), std::string::npos);
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(HttpLimits, AWholeAnswerIsBounded) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions",
                     ChatBody(R"("logprobs":true,"top_logprobs":20,"n":2)"));
  // More than fits, over both choices; the fake engine takes no notice of its context.
  for (std::uint64_t choice = 1; choice <= 2; ++choice) {
    engine_.WaitForRequest(choice);
    engine_.Tokens(choice, std::vector<std::int32_t>(6000, Id("!")));
  }
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.status, 400);
  EXPECT_NE(reply.body.find("16 MiB"), std::string::npos) << reply.body.substr(0, 300);
  engine_.WaitForCancel(1);
  engine_.WaitForCancel(2);
}

TEST_F(HttpLimits, ATurnMarkerIsNoText) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions", ChatBody(R"("ignore_eos":true)"));
  engine_.Tokens(1, {Id("Hello"), Id("<end_of_turn>"), Id("!"), Id("<start_of_turn>")});
  engine_.Finish(1, FinishReason::kLength);
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.Json()["choices"][0]["message"]["content"], "Hello!") << reply.body;
  EXPECT_EQ(reply.Json()["usage"]["completion_tokens"], 4);
}

TEST_F(HttpLimits, AStopStringThatNamesAMarkerStopsAtIt) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/completions",
                     CompletionBody(R"("stop":"<end_of_turn>","ignore_eos":true)"));
  engine_.Tokens(1, {Id("Hello"), Id("<end_of_turn>"), Id("!")});
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.Json()["choices"][0]["text"], "Hello") << reply.body;
  EXPECT_EQ(reply.Json()["choices"][0]["finish_reason"], "stop");
  engine_.WaitForCancel(1);
}

TEST_F(HttpLimits, ASystemPartStandsAsItIs) {
  Start();
  HttpTestClient client = Connect();
  const auto prompt_of = [&](const std::string& content, std::uint64_t handle) {
    client.SendRequest("POST", "/v1/chat/completions",
                       R"({"model":"m","messages":[{"role":"system","content":)" + content +
                           R"(},{"role":"user","content":"Hello"}]})");
    const auto prompt = engine_.WaitForRequest(handle).prompt;
    engine_.Finish(handle, FinishReason::kStop);
    EXPECT_EQ(client.Read().status, 200);
    return prompt;
  };
  const auto part = prompt_of(R"([{"type":"text","text":"  Hello \n"}])", 1);
  EXPECT_EQ(part, prompt_of(R"("  Hello \n")", 2));
  const auto several = prompt_of(R"([{"type":"text","text":"a"},{"type":"text","text":"b"}])", 3);
  EXPECT_EQ(several, prompt_of(R"("a\n\nb")", 4));
}

}  // namespace
}  // namespace tandem
