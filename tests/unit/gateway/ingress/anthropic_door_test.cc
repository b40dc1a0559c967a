#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kPath = "/v1/messages";

class AnthropicDoorTest : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
  static std::string Body(const std::string& members = "") {
    return R"({"model":"m","max_tokens":8,"messages":[{"role":"user","content":"Hello"}])" +
           (members.empty() ? "" : "," + members) + "}";
  }
  // The events of a stream: name and data.
  static std::vector<Json> Events(HttpTestClient& client) {
    std::vector<Json> events;
    while (auto event = client.ReadEvent()) {
      const std::size_t data = event->find("\ndata: ");
      Json json = Json::parse(event->substr(data == std::string::npos ? 0 : data + 7), nullptr,
                              /*allow_exceptions=*/false);
      EXPECT_NE(event->find("event: " + json["type"].get<std::string>() + "\n"), std::string::npos);
      events.push_back(std::move(json));
    }
    return events;
  }
};

TEST_F(AnthropicDoorTest, AnswersWhole) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, Body(R"("system":[{"type":"text","text":"Hell"}],"top_k":5)"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_EQ(request.max_tokens, 8);
  EXPECT_EQ(request.sampling.top_k, 5);
  engine_.Tokens(1, {Id("Hello")});
  engine_.Finish(1, FinishReason::kStop);
  const Json json = client.Read().Json();
  EXPECT_EQ(json["type"], "message");
  EXPECT_EQ(json["role"], "assistant");
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("msg_"));
  EXPECT_EQ(json["content"][0]["type"], "text");
  EXPECT_EQ(json["content"][0]["text"], "Hello");
  EXPECT_EQ(json["stop_reason"], "end_turn");
  EXPECT_TRUE(json["stop_sequence"].is_null());
  EXPECT_EQ(json["usage"]["input_tokens"], request.prompt.size());
  EXPECT_EQ(json["usage"]["output_tokens"], 1);
}

TEST_F(AnthropicDoorTest, StreamsItsEvents) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, Body(R"("stream":true,"stop_sequences":["lo wo"])"));
  engine_.Tokens(1, {Id("Hello")});
  engine_.Tokens(1, {Id("\u2581world")});
  EXPECT_EQ(client.ReadHead().headers.at("content-type"), "text/event-stream; charset=utf-8");
  const std::vector<Json> events = Events(client);
  std::vector<std::string> types;
  for (const Json& event : events) types.push_back(event["type"]);
  ASSERT_GE(types.size(), 7u);
  EXPECT_EQ(types[0], "message_start");
  EXPECT_EQ(events[0]["message"]["usage"]["output_tokens"], 0);
  EXPECT_GT(events[0]["message"]["usage"]["input_tokens"], 0);
  EXPECT_EQ(types[1], "ping");
  EXPECT_EQ(types[2], "content_block_start");
  EXPECT_EQ(types[3], "content_block_delta");
  EXPECT_EQ(events[3]["delta"]["text"], "Hel");
  EXPECT_EQ(types[types.size() - 3], "content_block_stop");
  const Json& delta = events[types.size() - 2];
  EXPECT_EQ(delta["type"], "message_delta");
  EXPECT_EQ(delta["delta"]["stop_reason"], "stop_sequence");
  EXPECT_EQ(delta["delta"]["stop_sequence"], "lo wo");
  EXPECT_EQ(types.back(), "message_stop");
}

TEST_F(AnthropicDoorTest, AnEmptyAnswerHasOneBlock) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, Body(R"("stream":true)"));
  engine_.WaitForRequest(1);
  engine_.Finish(1, FinishReason::kLength);
  client.ReadHead();
  const std::vector<Json> events = Events(client);
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[2]["type"], "content_block_start");
  EXPECT_EQ(events[4]["delta"]["stop_reason"], "max_tokens");
}

TEST_F(AnthropicDoorTest, ContinuesWhatTheAssistantBegan) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, R"({"max_tokens":4,"messages":[
      {"role":"user","content":"Hello"},{"role":"assistant","content":"Hell"}]})");
  const std::vector<std::int32_t> prompt = engine_.WaitForRequest(1).prompt;
  EXPECT_EQ(prompt.back(), Id("Hell"));
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(AnthropicDoorTest, CountsTokens) {
  const TestReply reply = Ask("POST", "/v1/messages/count_tokens",
                              R"({"model":"m","messages":[{"role":"user","content":"Hello"}]})");
  EXPECT_EQ(reply.status, 200) << reply.body;
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, Body());
  EXPECT_EQ(reply.Json()["input_tokens"], engine_.WaitForRequest(1).prompt.size());
  engine_.Finish(1, FinishReason::kStop);
  client.Read();
}

TEST_F(AnthropicDoorTest, ErrorsHaveItsShape) {
  struct Case {
    std::string body;
    int status;
    const char* type;
    const char* word;
  };
  const Case cases[] = {
      {"{", 400, "invalid_request_error", "body"},
      {R"({"messages":[]})", 400, "invalid_request_error", "messages"},
      {R"({"messages":[{"role":"bard","content":"x"}]})", 400, "invalid_request_error", "role"},
      {R"({"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]})", 400,
       "invalid_request_error", "image"},
      {R"({"messages":[{"role":"user","content":[{"type":"tool_use","id":"1"}]}]})", 400,
       "invalid_request_error", "content[0].type"},
      {Body(R"("model":"other")"), 404, "not_found_error", "other"},
      {Body(R"("thinking":{"type":"enabled","budget_tokens":1024})"), 400, "invalid_request_error",
       "thinking"},
      {Body(R"("temperature":9)"), 400, "invalid_request_error", "temperature"},
      {Body(R"("frobnicate":1)"), 400, "invalid_request_error", "frobnicate"},
      {Body(R"("tool_choice":{"type":"tool","name":"f"})"), 400, "invalid_request_error", "f"},
  };
  for (const Case& entry : cases) {
    const TestReply reply = Ask("POST", kPath, entry.body);
    EXPECT_EQ(reply.status, entry.status) << entry.body;
    const Json json = reply.Json();
    EXPECT_EQ(json["type"], "error") << reply.body;
    EXPECT_EQ(json["error"]["type"], entry.type) << reply.body;
    EXPECT_NE(json["error"]["message"].get<std::string>().find(entry.word), std::string::npos)
        << reply.body;
  }
  EXPECT_EQ(Ask("GET", kPath).Json()["error"]["type"], "invalid_request_error");
  EXPECT_EQ(Ask("GET", "/v1/messages/batches").Json()["error"]["type"], "not_found_error");
  EXPECT_EQ(engine_.submitted(), 0u);
}

}  // namespace
}  // namespace tandem
