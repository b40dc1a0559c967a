#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

class OllamaDoorTest : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
  static std::string Chat(const std::string& members = "") {
    return R"({"model":"m:latest","messages":[{"role":"user","content":"Hello"}])" +
           (members.empty() ? "" : "," + members) + "}";
  }
  static std::vector<Json> Lines(const std::string& body) {
    std::vector<Json> lines;
    std::istringstream stream(body);
    for (std::string line; std::getline(stream, line);) {
      lines.push_back(Json::parse(line, nullptr, /*allow_exceptions=*/false));
    }
    return lines;
  }
};

TEST_F(OllamaDoorTest, StreamsLinesByDefault) {
  HttpTestClient client = Connect();
  client.SendRequest(
      "POST", "/api/chat",
      Chat(R"("options":{"num_predict":9,"temperature":0,"num_ctx":4096,"seed":7})"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.seed, 7u);
  engine_.Tokens(1, {Id("Hello"), Id("\u2581world")});
  engine_.Finish(1, FinishReason::kLength);
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.headers.at("content-type"), "application/x-ndjson");
  const std::vector<Json> lines = Lines(reply.body);
  ASSERT_GE(lines.size(), 2u);
  std::string text;
  for (const Json& line : lines) {
    EXPECT_EQ(line["model"], "m");
    EXPECT_EQ(line["message"]["role"], "assistant");
    EXPECT_EQ(line["done"], &line == &lines.back());
    text += line["message"]["content"].get<std::string>();
  }
  EXPECT_EQ(text, "Hello world");
  EXPECT_EQ(lines.back()["done_reason"], "length");
  EXPECT_EQ(lines.back()["eval_count"], 2);
  EXPECT_EQ(lines.back()["prompt_eval_count"], request.prompt.size());
}

TEST_F(OllamaDoorTest, AnswersWhole) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/api/generate",
                     R"({"model":"m","prompt":"Hello","system":"Hell","stream":false})");
  engine_.Tokens(1, {Id("Hello")});
  engine_.Finish(1, FinishReason::kStop);
  const Json json = client.Read().Json();
  EXPECT_EQ(json["response"], "Hello");
  EXPECT_EQ(json["done"], true);
  EXPECT_EQ(json["done_reason"], "stop");
}

TEST_F(OllamaDoorTest, ARawPromptGoesAsItIs) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/api/generate", R"({"prompt":"Hello","raw":true,"stream":false})");
  EXPECT_EQ(engine_.WaitForRequest(1).prompt, (std::vector<std::int32_t>{2, Id("Hello")}));
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(OllamaDoorTest, NothingAskedLoadsTheModel) {
  EXPECT_EQ(Ask("POST", "/api/generate", R"({"model":"m"})").Json()["done_reason"], "load");
  EXPECT_EQ(Ask("POST", "/api/chat", R"({"model":"m","messages":[]})").Json()["done"], true);
  EXPECT_EQ(Ask("POST", "/api/chat", R"({"model":"other"})").status, 404);
}

TEST_F(OllamaDoorTest, ShowsTheModel) {
  EXPECT_EQ(Ask("GET", "/api/tags").Json()["models"][0]["name"], "m");
  EXPECT_EQ(Ask("GET", "/api/ps").Json()["models"][0]["context_length"], 512);
  const Json show = Ask("POST", "/api/show", R"({"model":"m:latest"})").Json();
  EXPECT_EQ(show["model_info"]["gemma3.context_length"], 512);
  EXPECT_EQ(Ask("POST", "/api/show", R"({"name":"other"})").status, 404);
  EXPECT_TRUE(Ask("GET", "/api/version").Json()["version"].is_string());
}

TEST_F(OllamaDoorTest, ErrorsHaveItsShape) {
  for (const std::string& body :
       {std::string("{"), Chat(R"("options":{"repeat_penalty":1.1})"), Chat(R"("options":[])"),
        Chat(R"("options":{"frobnicate":1})"), Chat(R"("format":"xml")"), Chat(R"("think":true)"),
        std::string(R"({"messages":[{"role":"user","content":"x","images":["aGk="]}]})"),
        std::string(R"({"messages":[{"role":"bard","content":"x"}]})")}) {
    const TestReply reply = Ask("POST", "/api/chat", body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_TRUE(reply.Json()["error"].is_string()) << reply.body;
  }
  EXPECT_TRUE(Ask("GET", "/api/pull").Json()["error"].is_string());
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(OllamaDoorTest, AnErrorInAStreamIsALine) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/api/chat", Chat());
  engine_.Tokens(1, {Id("Hello")});
  client.ReadHead();
  engine_.Finish(1, FinishReason::kError, absl::InternalError("broken"));
  TestReply reply;
  reply.headers["transfer-encoding"] = "chunked";
  client.ReadBody(reply);
  EXPECT_EQ(Lines(reply.body).back()["error"], "broken");
}

}  // namespace
}  // namespace tandem
