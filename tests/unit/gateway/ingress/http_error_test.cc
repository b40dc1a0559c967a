#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

class HttpError : public IngressFixture {};

struct ErrorCase {
  const char* method;
  const char* path;
  std::string body;
  int status;
  const char* param;
  const char* code;
};

TEST_F(HttpError, HasOpenAisShapeAndTheRightStatus) {
  Start();
  const ErrorCase cases[] = {
      {"GET", "/v1/nothing", "", 404, "", ""},
      {"GET", "/nowhere", "", 404, "", ""},
      {"GET", "/v1/chat/completions", "", 405, "", ""},
      {"DELETE", "/v1/models", "", 405, "", ""},
      {"POST", "/healthz", "{}", 405, "", ""},
      {"GET", "/v1/models/other", "", 404, "model", "model_not_found"},
      {"POST", "/v1/chat/completions", "{", 400, "", ""},
      {"POST", "/v1/chat/completions", "\"\xff\"", 400, "", ""},
      {"POST", "/v1/chat/completions", "{}", 400, "messages", ""},
      {"POST", "/v1/completions/", "{}", 400, "prompt", ""},
      {"POST", "/v1/completions", R"({"model":"other","prompt":"x"})", 404, "model",
       "model_not_found"},
      {"POST", "/v1/chat/completions", ChatBody(R"("temperature":9)"), 400, "temperature", ""},
      {"POST", "/v1/chat/completions", ChatBody(R"("logit_bias":{"999999":1})"), 400, "logit_bias",
       ""},
      {"POST", "/v1/chat/completions",
       R"({"continue_final_message":true,"messages":[{"role":"user","content":"x"}]})", 400,
       "continue_final_message", ""},
      {"POST", "/v1/chat/completions", ChatBody(R"("max_tokens":512)"), 400, "messages",
       "context_length_exceeded"},
      {"POST", "/v1/completions", R"({"model":"m","prompt":")" + std::string(600, '#') + R"("})",
       400, "prompt", "context_length_exceeded"},
      {"POST", "/v1/completions", R"({"model":"m","prompt":[999999]})", 400, "prompt", ""},
  };
  for (const ErrorCase& entry : cases) {
    const TestReply reply = Ask(entry.method, entry.path, entry.body);
    const std::string name =
        std::string(entry.method) + " " + entry.path + " " + entry.body.substr(0, 80);
    EXPECT_EQ(reply.status, entry.status) << name << reply.body;
    const nlohmann::json json = reply.Json();
    ASSERT_TRUE(json.is_object() && json.contains("error")) << name << ": " << reply.body;
    const nlohmann::json& error = json["error"];
    EXPECT_FALSE(error["message"].get<std::string>().empty()) << name;
    EXPECT_EQ(error["type"], "invalid_request_error") << name;
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].get<std::string>(), entry.param)
        << name;
    EXPECT_EQ(error["code"].is_null() ? "" : error["code"].get<std::string>(), entry.code) << name;
  }
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(HttpError, AFullQueueIs429) {
  Start();
  engine_.SetQueue(0);
  const TestReply reply = Ask("POST", "/v1/completions", CompletionBody());
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
  EXPECT_EQ(reply.Json()["error"]["code"], "rate_limit_exceeded");
}

TEST_F(HttpError, EngineRefusalsHaveTheirStatus) {
  Start();
  engine_.RefuseWith(absl::UnavailableError("failed for good"));
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody()).status, 503);
  engine_.RefuseWith(absl::InternalError("bug"));
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody()).status, 500);
  engine_.RefuseWith(absl::InvalidArgumentError("never fits"));
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody()).status, 400);
}

TEST_F(HttpError, BeforeTheModelIsThere) {
  Start();
  serving_.Set(nullptr);
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  EXPECT_EQ(Ask("GET", "/readyz").status, 503);
  EXPECT_EQ(Ask("GET", "/v1/models").status, 503);
  EXPECT_EQ(Ask("GET", "/v1/models/m").status, 503);
  EXPECT_EQ(Ask("POST", "/v1/chat/completions", ChatBody()).status, 503);
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody()).status, 503);
}

TEST_F(HttpError, ReadinessIsTheEngines) {
  Start();
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  EXPECT_EQ(Ask("GET", "/health").Json()["status"], "ok");
  engine_.SetReady(absl::UnavailableError("loading 42 %"));
  const TestReply reply = Ask("GET", "/readyz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.Json()["error"]["message"], "loading 42 %");
  EXPECT_EQ(Ask("GET", "/health").status, 503);
}

TEST_F(HttpError, KeysGuardAllButHealth) {
  auto keys = ApiKeys::Create({"secret"});
  ASSERT_TRUE(keys.ok());
  keys_ = *std::move(keys);
  Start();
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  for (const char* path : {"/v1/models", "/metrics", "/v1/unknown"}) {
    const TestReply reply = Ask("GET", path);
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_EQ(reply.Json()["error"]["code"], "invalid_api_key");
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(Ask("GET", "/v1/models", "", "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(Ask("GET", "/v1/models", "", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(Ask("GET", "/v1/models", "", "X-Api-Key: wrong\r\n").status, 401);
  EXPECT_EQ(Ask("GET", "/v1/models", "", "x-api-key: secret\r\n").status, 200);
  const TestReply twice = Ask("GET", "/v1/models", "",
                              "Authorization: Bearer secret\r\nAuthorization: Bearer wrong\r\n");
  EXPECT_EQ(twice.status, 400);
  EXPECT_EQ(twice.Json()["error"]["message"], "expected one Authorization header, found 2");
  // The body of an unauthorised request is not even read.
  HttpTestClient client = Connect();
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.headers.at("connection"), "close");
}

TEST_F(HttpError, FormPostsOfWebPagesAreRefused) {
  Start();
  HttpTestClient client = Connect();
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}");
  EXPECT_EQ(client.Read().status, 415);
}

TEST_F(HttpError, ModelsAndMetrics) {
  Start();
  const nlohmann::json list = Ask("GET", "/v1/models").Json();
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0]["id"], "m");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["created"], 1700000000);
  EXPECT_EQ(list["data"][0]["max_model_len"], 512);
  EXPECT_EQ(Ask("GET", "/v1/models/").Json(), list);
  EXPECT_EQ(Ask("GET", "/v1/models/m").Json()["id"], "m");
  EXPECT_EQ(Ask("GET", "/v1/models/%6D?x=1").Json()["id"], "m");
  Ask("POST", "/v1/completions", CompletionBody(R"("max_tokens":0)"));
  Ask("POST", "/v1/completions", "{");
  const std::string text = Ask("GET", "/metrics").body;
  EXPECT_NE(text.find("tandem_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 1"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("tandem_requests_total{endpoint=\"/v1/completions\",status=\"400\"} 1"),
            std::string::npos);
  EXPECT_NE(text.find("tandem_prompt_tokens_total 2"), std::string::npos);
}

TEST_F(HttpError, EveryReplyNamesItsRequest) {
  Start();
  EXPECT_EQ(Ask("GET", "/healthz", "", "X-Request-Id: mine-7\r\n").headers.at("x-request-id"),
            "mine-7");
  const TestReply own = Ask("GET", "/v1/nothing", "", "X-Request-Id: has a space\r\n");
  EXPECT_TRUE(own.headers.at("x-request-id").starts_with("req_"));
  const std::string id = Ask("POST", "/v1/completions", "{").headers.at("x-request-id");
  EXPECT_TRUE(id.starts_with("req_") && id.size() == 28) << id;
}

}  // namespace
}  // namespace tandem
