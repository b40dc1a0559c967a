#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "lib/service/listen_address.h"
#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

constexpr char kHeaders[] = "Host: localhost\r\nContent-Type: application/json\r\n";

class HttpProtocol : public IngressFixture {};

TEST_F(HttpProtocol, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  HttpTestClient client = Connect();
  const std::string body = CompletionBody();
  client.Send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /v1/completions HTTP/1.1\r\n" +
              std::string(kHeaders) + "Content-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body + "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.Read().body, "ok\n");
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().Json()["object"], "text_completion");
  EXPECT_EQ(client.Read().Json()["object"], "list");
}

TEST_F(HttpProtocol, PipelinedBytesDoNotHideThatTheClientLeft) {
  Start();
  {
    HttpTestClient client = Connect();
    client.SendRequest("POST", "/v1/completions", CompletionBody());
    engine_.WaitForRequest(1);
    client.Send("GET /healthz HTTP/1.1\r\n");
  }
  engine_.WaitForCancel(1);
}

TEST_F(HttpProtocol, HeadHasNoBody) {
  Start();
  HttpTestClient client = Connect();
  client.Send(
      "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: "
      "localhost\r\n\r\n");
  const TestReply head = client.ReadHead();
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.headers.at("content-length"), "0");
  EXPECT_EQ(client.Read().body, "ok\n");
}

TEST_F(HttpProtocol, Http10ClosesAndIsNotChunked) {
  Start();
  HttpTestClient client = Connect();
  const std::string body = CompletionBody(R"("stream":true)");
  client.Send(
      "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  engine_.Tokens(1, {Id("!")});
  TestReply reply = client.ReadHead();
  EXPECT_EQ(reply.headers.at("connection"), "close");
  EXPECT_FALSE(reply.headers.contains("transfer-encoding"));
  engine_.Finish(1, FinishReason::kStop);
  client.ReadBody(reply);
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n")) << reply.body;
}

TEST_F(HttpProtocol, ConnectionCloseIsObeyed) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("GET", "/healthz", "", "Connection: close\r\n");
  EXPECT_EQ(client.Read().headers.at("connection"), "close");
  EXPECT_TRUE(client.ReadToEnd());
}

TEST_F(HttpProtocol, BodiesMayComeInChunksAndAfterContinue) {
  Start();
  HttpTestClient client = Connect();
  const std::string body = CompletionBody(R"("echo":true,"max_tokens":0)");
  client.Send(std::string("POST /v1/completions HTTP/1.1\r\n") + std::string(kHeaders) +
              "Transfer-Encoding: chunked\r\n\r\n3\r\n" + body.substr(0, 3) + "\r\n");
  char length[16];
  std::snprintf(length, sizeof(length), "%zx", body.size() - 3);
  client.Send(std::string(length) + "\r\n" + body.substr(3) + "\r\n0\r\n\r\n");
  EXPECT_EQ(client.Read().status, 200);
  client.Send(std::string("POST /v1/completions HTTP/1.1\r\n") + std::string(kHeaders) +
              "Expect: 100-continue\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n");
  EXPECT_EQ(client.ReadHead().status, 100);
  client.Send(body);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpProtocol, ABodyWhoseEndIsNotKnownHidesNoRequest) {
  Start();
  const std::string hidden =
      std::string("GET /healthz HTTP/1.1\r\n") + std::string(kHeaders) + "\r\n";
  for (const char* coding :
       {"identity", "xchunked", "chunked, identity", "\"chunked\"", "gzip, chunked", "chunked;q=1",
        "chunked\r\nTransfer-Encoding: x", ""}) {
    HttpTestClient client = Connect();
    client.Send(std::string("POST /v1/completions HTTP/1.1\r\n") + std::string(kHeaders) +
                "Transfer-Encoding: " + coding + "\r\n\r\n" + hidden);
    const TestReply reply = client.Read();
    EXPECT_TRUE(reply.status == 501 || reply.status == 400) << coding << " " << reply.status;
    EXPECT_EQ(reply.headers.at("connection"), "close") << coding;
    // Nothing but this one answer.
    EXPECT_TRUE(client.ReadToEnd()) << coding;
  }
  HttpTestClient old = Connect();
  old.Send(std::string("POST /v1/completions HTTP/1.0\r\n") + std::string(kHeaders) +
           "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(old.Read().status, 501);
}

// RFC 9112, 3.2.2: servers take the form that proxies are sent, too, and its host is the one that
// counts.
TEST_F(HttpProtocol, ATargetMayBeAWholeUrl) {
  Start();
  const auto status = [this](const std::string& line, const std::string& host = "Host: localhost") {
    HttpTestClient client = Connect();
    client.Send("GET " + line + "\r\n" + (host.empty() ? "" : host + "\r\n") +
                "Connection: close\r\n\r\n");
    return client.Read().status;
  };
  EXPECT_EQ(status("http://localhost:81/v1/models HTTP/1.1"), 200);
  EXPECT_EQ(status("HTTPS://127.0.0.1/v1/models?x=/y HTTP/1.1"), 200);
  EXPECT_EQ(status("http://[::1]:80/healthz HTTP/1.1"), 200);
  EXPECT_EQ(status("http://localhost HTTP/1.1"), 200) << "the page";
  EXPECT_EQ(status("http://localhost?x=http://evil.example/ HTTP/1.1"), 200);
  EXPECT_EQ(status("http://localhost/no HTTP/1.1"), 404);
  EXPECT_EQ(status("http://localhost/healthz HTTP/1.1", "Host: evil.example"), 200);
  EXPECT_EQ(status("http://evil.example/healthz HTTP/1.1"), 403);
  EXPECT_EQ(status("http://evil.example/healthz HTTP/1.0", ""), 403);
  EXPECT_EQ(status("http://localhost/healthz HTTP/1.0", ""), 200);
  EXPECT_EQ(status("http://localhost/healthz HTTP/1.1", ""), 400) << "the header must be there";
  EXPECT_EQ(status("http://me:secret@localhost/healthz HTTP/1.1"), 400);
  EXPECT_EQ(status("http:///healthz HTTP/1.1"), 400);
  EXPECT_EQ(status("httpx://localhost/healthz HTTP/1.1"), 404);
  EXPECT_EQ(status("* HTTP/1.1"), 404);
}

TEST_F(HttpProtocol, LimitsOfHeadAndBody) {
  options_.max_body_bytes = 1000;
  options_.max_header_bytes = 1000;
  Start();
  const TestReply body = Ask("POST", "/v1/completions", std::string(1001, ' '));
  EXPECT_EQ(body.status, 413);
  EXPECT_EQ(body.Json()["error"]["code"], "request_too_large");
  EXPECT_EQ(body.headers.at("connection"), "close");
  EXPECT_EQ(Ask("POST", "/v1/completions", std::string(1000, ' ')).status, 400);
  HttpTestClient chunked = Connect();
  chunked.Send(std::string("POST /v1/completions HTTP/1.1\r\n") + std::string(kHeaders) +
               "Transfer-Encoding: chunked\r\n\r\n400\r\n" + std::string(1024, ' ') + "\r\n");
  EXPECT_EQ(chunked.Read().status, 413);
  EXPECT_EQ(Ask("GET", "/healthz", "", "X: " + std::string(1000, 'x') + "\r\n").status, 431);
}

TEST_F(HttpProtocol, NonsenseIs400AndCloses) {
  Start();
  HttpTestClient client = Connect();
  client.Send("this is not HTTP\r\n\r\n");
  EXPECT_EQ(client.Read().status, 400);
  EXPECT_TRUE(client.ReadToEnd());
}

TEST_F(HttpProtocol, SlowHeadsAndIdleConnectionsEnd) {
  options_.header_timeout = absl::Milliseconds(50);
  options_.idle_timeout = absl::Milliseconds(50);
  Start();
  HttpTestClient slow = Connect();
  slow.Send("GET /healthz HT");
  EXPECT_TRUE(slow.ReadToEnd());
  HttpTestClient idle = Connect();
  EXPECT_TRUE(idle.ReadToEnd());
}

TEST_F(HttpProtocol, ListensOnAUnixSocket) {
  std::string folder = ::testing::TempDir() + "tandem-http-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/http.sock";
  const auto address = ParseListenAddress("unix:" + path);
  ASSERT_TRUE(address.ok());
  auto server = HttpServer::Start(*address, options_, router_);
  ASSERT_TRUE(server.ok()) << server.status();
  HttpTestClient client((*server)->address());
  client.SendRequest("GET", "/healthz");
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_FALSE(HttpServer::Start(*address, options_, router_).ok());  // it is in use
  server->reset();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  rmdir(folder.c_str());
}

TEST_F(HttpProtocol, APortInUseIsAnError) {
  Start();
  const auto address = ParseListenAddress(server_->address());
  ASSERT_TRUE(address.ok());
  const absl::Status status = HttpServer::Start(*address, options_, router_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(server_->address()), absl::string_view::npos);
}

TEST_F(HttpProtocol, ShutdownLetsAnswersFinish) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/completions", CompletionBody());
  engine_.WaitForRequest(1);
  HttpTestClient idle = Connect();
  std::thread stopper([this] { server_->Shutdown(absl::Minutes(1)); });
  EXPECT_TRUE(idle.ReadToEnd());
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
  client.Close();
  stopper.join();
}

TEST_F(HttpProtocol, ShutdownCutsStreamsAfterItsGrace) {
  Start();
  HttpTestClient streaming = Connect();
  streaming.SendRequest("POST", "/v1/completions", CompletionBody(R"("stream":true)"));
  engine_.Tokens(1, {Id("!")});
  streaming.ReadHead();
  streaming.ReadEvent();
  HttpTestClient waiting = Connect();
  waiting.SendRequest("POST", "/v1/completions", CompletionBody());
  engine_.WaitForRequest(2);
  std::thread stopper([this] { server_->Shutdown(absl::ZeroDuration()); });
  const auto event = streaming.ReadEvent();
  ASSERT_TRUE(event.has_value());
  EXPECT_NE(event->find("shutting down"), std::string::npos);
  EXPECT_EQ(waiting.Read().status, 503);
  streaming.Close();
  waiting.Close();
  stopper.join();
  engine_.WaitForCancel(1);
  engine_.WaitForCancel(2);
}

// Many connections at once over several threads: what the thread sanitizer looks at.
TEST_F(HttpProtocol, ManyClientsAtOnce) {
  Start();
  constexpr int kClients = 8;
  constexpr int kRequests = 5;
  std::vector<std::thread> clients;
  std::thread engine([this] {
    for (std::uint64_t i = 1; i <= kClients * kRequests; ++i) {
      engine_.WaitForRequest(i);
      engine_.Tokens(i, {Id("Hello"), Id("!")});
      engine_.Finish(i, FinishReason::kStop);
    }
  });
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([this, c] {
      HttpTestClient client = Connect();
      for (int r = 0; r < kRequests; ++r) {
        client.SendRequest("POST", "/v1/completions",
                           CompletionBody(c % 2 == 0 ? R"("stream":true)" : ""));
        const TestReply reply = client.Read();
        EXPECT_EQ(reply.status, 200);
        EXPECT_NE(reply.body.find("Hello"), std::string::npos);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  engine.join();
}

}  // namespace
}  // namespace tandem
