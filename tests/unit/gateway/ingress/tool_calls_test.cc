// Tools and formats through every door, with an engine that the test writes.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr char kCall[] = R"({"name": "weather", "parameters": {"city": "Paris"}})";
constexpr char kTwo[] =
    R"([{"name": "weather", "parameters": {"city": "Paris"}}, {"name": "now", "parameters": {}}])";

class ToolCalls : public IngressFixture {
 protected:
  void SetUp() override {
    engine_.SetContext(4096);
    Start();
  }
  void Say(std::uint64_t handle, std::string_view text) {
    for (const std::int32_t token : TestTokenizer()->Encode(text)) engine_.Tokens(handle, {token});
    engine_.Finish(handle, FinishReason::kStop);
  }
  TestReply Answer(std::string_view path, const std::string& body, std::string_view text) {
    HttpTestClient client = Connect();
    client.SendRequest("POST", path, body);
    Say(++asked_, text);
    return client.Read();
  }
  // The data of every event.
  std::vector<Json> Stream(std::string_view path, const std::string& body, std::string_view text) {
    HttpTestClient client = Connect();
    client.SendRequest("POST", path, body);
    Say(++asked_, text);
    client.ReadHead();
    std::vector<Json> events;
    while (auto event = client.ReadEvent()) {
      const std::size_t data = event->find("\ndata: ");
      events.push_back(Json::parse(data == std::string::npos ? *event : event->substr(data + 7),
                                   nullptr, false));
    }
    return events;
  }
  std::string PromptOf(std::uint64_t handle) {
    return TestTokenizer()->Decode(engine_.WaitForRequest(handle).prompt).value_or("?");
  }

  std::uint64_t asked_ = 0;
};

constexpr char kChat[] = "/v1/chat/completions";
constexpr char kChatTools[] =
    R"("tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object",
       "properties":{"city":{"type":"string"}},"required":["city"]}}},
       {"type":"function","function":{"name":"now"}}])";

TEST_F(ToolCalls, OpenAiChat) {
  const Json json = Answer(kChat, ChatBody(kChatTools), kTwo).Json();
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  const Json& calls = choice["message"]["tool_calls"];
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0]["function"]["name"], "weather");
  EXPECT_EQ(calls[0]["function"]["arguments"], R"({"city": "Paris"})");
  EXPECT_TRUE(calls[1]["id"].get<std::string>().starts_with("call_"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  ASSERT_NE(request.sampling.constraint, nullptr);
  EXPECT_EQ(request.sampling.constraint->stop_tokens,
            (std::vector<std::int32_t>{TestTokenizer()->eos_id(), Id("<end_of_turn>")}));
  EXPECT_NE(PromptOf(1).find("You have access to functions."), std::string::npos);
}

TEST_F(ToolCalls, OpenAiChatStreams) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kChat, ChatBody(std::string(R"("stream":true,)") + kChatTools));
  engine_.Tokens(1, TestTokenizer()->Encode(std::string_view(kCall).substr(0, 42)));
  client.ReadHead();
  std::string arguments;
  std::string name;
  std::vector<std::string> ids;
  Json reason;
  bool finished = false;
  while (const auto event = client.ReadEvent()) {
    if (*event == "[DONE]") break;
    const Json choice = Json::parse(*event)["choices"][0];
    EXPECT_EQ(choice["delta"].value("content", ""), "") << choice;
    reason = choice["finish_reason"];
    for (const Json& call : choice["delta"].value("tool_calls", Json::array())) {
      EXPECT_EQ(call["index"], 0);
      if (call.contains("id")) {
        ids.push_back(call["id"]);
        name = call["function"]["name"];
      }
      arguments += call["function"]["arguments"];
      // The rest comes only after the beginning was read.
      if (!std::exchange(finished, true)) {
        EXPECT_TRUE(std::string_view(R"({"city":)").starts_with(arguments)) << arguments;
        Say(1, std::string_view(kCall).substr(42));
      }
    }
  }
  EXPECT_EQ(name, "weather");
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(arguments, R"({"city": "Paris"})");
  EXPECT_EQ(reason, "tool_calls");
}

TEST_F(ToolCalls, TextBesideToolsIsText) {
  const Json json = Answer(kChat, ChatBody(kChatTools), "Hello world").Json();
  EXPECT_EQ(json["choices"][0]["message"]["content"], "Hello world");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  const std::string none = ChatBody(std::string(R"("tool_choice":"none",)") + kChatTools);
  EXPECT_EQ(Answer(kChat, none, kCall).Json()["choices"][0]["message"]["content"], kCall);
  EXPECT_EQ(engine_.WaitForRequest(2).sampling.constraint, nullptr);
  EXPECT_EQ(PromptOf(2).find("functions"), std::string::npos);
}

TEST_F(ToolCalls, LogprobsComeWithTextAlone) {
  const std::string body = ChatBody(std::string(R"("logprobs":true,)") + kChatTools);
  EXPECT_EQ(Answer(kChat, body, "{!").Json()["choices"][0]["logprobs"]["content"].size(), 2u);
  EXPECT_EQ(Answer(kChat, body, kCall).Json()["choices"][0]["logprobs"]["content"].size(), 0u);
}

TEST_F(ToolCalls, ACallThatIsCutOffEndsForItsLength) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kChat, ChatBody(kChatTools));
  engine_.Tokens(1, TestTokenizer()->Encode(R"({"name": "now", "parameters": {)"));
  engine_.Finish(1, FinishReason::kLength);
  const Json choice = client.Read().Json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["arguments"], "{");
}

TEST_F(ToolCalls, TheConversationGoesOnWithWhatToolsGave) {
  Answer(kChat, R"({"messages":[{"role":"user","content":"Hello"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
        "function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"{\"celsius\":22}"}]})",
         "!");
  const std::string prompt = PromptOf(1);
  EXPECT_NE(prompt.find(R"({"name": "weather", "parameters": {"city": "Rome"}})"),
            std::string::npos)
      << prompt;
  EXPECT_NE(prompt.find("```tool_output\n{\"name\": \"weather\", \"output\": {\"celsius\": 22}}"),
            std::string::npos)
      << prompt;
}

TEST_F(ToolCalls, Responses) {
  const std::string tools = R"("tools":[{"type":"function","name":"weather","parameters":{
      "type":"object","properties":{"city":{"type":"string"}}}}])";
  const Json json = Answer("/v1/responses", R"({"input":"Hello",)" + tools + "}", kCall).Json();
  EXPECT_EQ(json["output"].size(), 1u);
  EXPECT_EQ(json["output"][0]["type"], "function_call");
  EXPECT_EQ(json["output"][0]["arguments"], R"({"city": "Paris"})");
  std::string arguments;
  std::vector<std::string> types;
  for (const Json& event :
       Stream("/v1/responses", R"({"input":"Hello","stream":true,)" + tools + "}", kCall)) {
    types.push_back(event["type"]);
    if (types.back() == "response.function_call_arguments.delta")
      arguments += event["delta"].get<std::string>();
    if (types.back() == "response.output_item.added") {
      EXPECT_EQ(event["item"]["type"], "function_call");
    }
  }
  EXPECT_EQ(arguments, R"({"city": "Paris"})");
  EXPECT_EQ(types.back(), "response.completed");
  // The stored call and its output are the next request's conversation.
  const std::string call_id = json["output"][0]["call_id"];
  Answer("/v1/responses",
         R"({"previous_response_id":")" + json["id"].get<std::string>() +
             R"(","input":[{"type":"function_call_output","call_id":")" + call_id +
             R"(","output":"22"}]})",
         "!");
  const std::string prompt = PromptOf(3);
  EXPECT_NE(prompt.find(kCall), std::string::npos) << prompt;
  EXPECT_NE(prompt.find(R"({"name": "weather", "output": 22})"), std::string::npos) << prompt;
}

TEST_F(ToolCalls, Anthropic) {
  const std::string body = R"({"max_tokens":90,"messages":[{"role":"user","content":"Hello"}],
      "tools":[{"name":"weather","input_schema":{"type":"object",
                "properties":{"city":{"type":"string"}}}}])";
  const Json json = Answer("/v1/messages", body + "}", kCall).Json();
  EXPECT_EQ(json["stop_reason"], "tool_use");
  EXPECT_EQ(json["content"].size(), 1u);
  EXPECT_EQ(json["content"][0]["type"], "tool_use");
  EXPECT_EQ(json["content"][0]["input"]["city"], "Paris");
  EXPECT_TRUE(json["content"][0]["id"].get<std::string>().starts_with("toolu_"));
  std::string partial;
  Json reason;
  for (const Json& event : Stream("/v1/messages", body + R"(,"stream":true})", kCall)) {
    if (event["type"] == "content_block_start") {
      EXPECT_EQ(event["content_block"]["type"], "tool_use");
    }
    if (event["type"] == "content_block_delta")
      partial += event["delta"]["partial_json"].get<std::string>();
    if (event["type"] == "message_delta") reason = event["delta"]["stop_reason"];
  }
  EXPECT_EQ(partial, R"({"city": "Paris"})");
  EXPECT_EQ(reason, "tool_use");
}

TEST_F(ToolCalls, Ollama) {
  const std::string body = R"({"stream":false,"messages":[{"role":"user","content":"Hello"}],)";
  const Json json = Answer("/api/chat", body + kChatTools + "}", kTwo).Json();
  ASSERT_EQ(json["message"]["tool_calls"].size(), 2u);
  EXPECT_EQ(json["message"]["tool_calls"][0]["function"]["arguments"]["city"], "Paris");
  const Json formed = Answer("/api/chat", body + R"("format":"json"})", "{}").Json();
  EXPECT_EQ(formed["message"]["content"], "{}");
  EXPECT_NE(engine_.WaitForRequest(2).sampling.constraint, nullptr);
}

TEST_F(ToolCalls, FormatsInEverySpelling) {
  const char* kBodies[] = {
      R"("response_format":{"type":"json_object"})",
      R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}})",
      R"("guided_json":{"type":"object"})",
      R"("guided_json":"{\"type\":\"object\"}")",
      R"("guided_regex":"[a-z]+")",
      R"("guided_choice":["yes","no"])",
      R"("guided_grammar":"root ::= [a-z]")",
      R"("structured_outputs":{"choice":["yes"]})",
      R"("structured_outputs":{"json_object":true})",
      R"("grammar":"root ::= [a-z]")",
      R"("json_schema":{"type":"object"})"};
  for (const char* body : kBodies) {
    ASSERT_EQ(Answer(kChat, ChatBody(body), "!").status, 200) << body;
    EXPECT_NE(engine_.WaitForRequest(asked_).sampling.constraint, nullptr) << body;
  }
  ASSERT_EQ(Answer("/v1/completions", CompletionBody(R"("guided_regex":"[a-z]+")"), "!").status,
            200);
  EXPECT_NE(engine_.WaitForRequest(asked_).sampling.constraint, nullptr);
  for (const char* body : {R"("guided_json":{})", R"("grammar":"")", R"("guided_regex":null)",
                           R"("structured_outputs":{"json":null,"disable_fallback":false})"}) {
    ASSERT_EQ(Answer(kChat, ChatBody(body), "!").status, 200) << body;
    EXPECT_EQ(engine_.WaitForRequest(asked_).sampling.constraint, nullptr) << body;
  }
}

TEST_F(ToolCalls, WhatCannotBeKeptIsRefusedByName) {
  std::string deep = "{}";
  for (int i = 0; i < 40; ++i) deep = R"({"items":)" + deep + "}";
  const std::string large =
      R"({"description":")" + std::string(140'000, 'x') + R"(","type":"object"})";
  const std::pair<std::string, std::string> cases[] = {
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{"not":{}}}})",
       "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":)" + large + "}}",
       "response_format.json_schema.schema"},
      {R"("guided_json":)" + deep, ""},
      {R"("guided_regex":"(a)\\1")", "guided_regex"},
      {R"("guided_regex":"a","guided_grammar":"root ::= [a]")", "guided_grammar"},
      {R"("guided_choice":[1])", "guided_choice"},
      {R"("structured_outputs":{"structural_tag":"x"})", "structured_outputs.structural_tag"},
      {R"("grammar":"root ::= root")", "grammar"},
      {R"("guided_regex":"a","ignore_eos":true)", "ignore_eos"},
      {std::string(R"("guided_grammar":"root ::= [a]",)") + kChatTools, "tools"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":true,
          "parameters":{"type":"object","propertyNames":{}}}}])",
       "tools[0].function.parameters"},
  };
  for (const auto& [members, param] : cases) {
    const TestReply reply = Ask("POST", kChat, ChatBody(members));
    EXPECT_EQ(reply.status, 400) << members.substr(0, 200);
    const Json error = reply.Json()["error"];
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].get<std::string>(), param) << error;
  }
  EXPECT_EQ(engine_.submitted(), 0u);
}

}  // namespace
}  // namespace tandem
