#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gateway/ingress/doors/responses/response_store.h"
#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kResponsesPath = "/v1/responses";

class ResponsesDoorTest : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
  // Answers the request that comes as number `handle` with "Hello".
  Json Create(std::uint64_t handle, const std::string& body, std::string_view headers = "") {
    HttpTestClient client = Connect();
    client.SendRequest("POST", kResponsesPath, body, headers);
    engine_.Tokens(handle, {Id("Hello")});
    engine_.Finish(handle, FinishReason::kStop);
    const TestReply reply = client.Read();
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.Json();
  }
};

TEST_F(ResponsesDoorTest, AnswersWhole) {
  const Json json = Create(1, R"({"model":"m","input":"Hello","instructions":"Hell","top_p":0.9,
                                  "temperature":0.2,"max_output_tokens":20,"metadata":{"a":"b"}})");
  EXPECT_EQ(json["object"], "response");
  EXPECT_EQ(json["status"], "completed");
  EXPECT_EQ(json["output"][0]["type"], "message");
  EXPECT_EQ(json["output"][0]["content"][0]["text"], "Hello");
  EXPECT_EQ(json["temperature"], 0.2);
  EXPECT_EQ(json["top_p"], 0.9);
  EXPECT_EQ(json["max_output_tokens"], 20);
  EXPECT_EQ(json["metadata"]["a"], "b");
  EXPECT_EQ(json["usage"]["output_tokens"], 1);
  EXPECT_EQ(json["usage"]["input_tokens"], engine_.WaitForRequest(1).prompt.size());
}

TEST_F(ResponsesDoorTest, StreamsNumberedEvents) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kResponsesPath, R"({"stream":true,"input":[
      {"role":"user","content":[{"type":"input_text","text":"Hello"}]}]})");
  engine_.Tokens(1, {Id("Hello")});
  engine_.Finish(1, FinishReason::kLength);
  client.ReadHead();
  std::vector<std::string> types;
  Json last;
  while (auto event = client.ReadEvent()) {
    last = Json::parse(event->substr(event->find("\ndata: ") + 7), nullptr, false);
    EXPECT_EQ(last["sequence_number"], types.size());
    types.push_back(last["type"]);
  }
  const std::vector<std::string> expected = {
      "response.created",           "response.in_progress",
      "response.output_item.added", "response.content_part.added",
      "response.output_text.delta", "response.output_text.done",
      "response.content_part.done", "response.output_item.done",
      "response.incomplete"};
  EXPECT_EQ(types, expected);
  EXPECT_EQ(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
}

TEST_F(ResponsesDoorTest, GoesOnFromAPreviousResponse) {
  const std::string id = Create(1, R"({"input":"Hello","instructions":"!"})")["id"];
  Create(2, R"({"input":"world","previous_response_id":")" + id + "\"}");
  const std::vector<std::int32_t> prompt = engine_.WaitForRequest(2).prompt;
  // Three turns and the one that is to come; the instructions were the first request's own.
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), Id("<start_of_turn>")), 4);
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), Id("Hello")), 2);
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), Id("!")), 0);
}

TEST_F(ResponsesDoorTest, KeepsAnswersForWhoAsked) {
  const std::string id = Create(1, R"({"input":"Hello"})", "X-Api-Key: one\r\n")["id"];
  const std::string path = std::string(kResponsesPath) + "/" + id;
  EXPECT_EQ(Ask("GET", path).status, 404);
  EXPECT_EQ(Ask("GET", path, "", "X-Api-Key: two\r\n").status, 404);
  const TestReply got = Ask("GET", path, "", "X-Api-Key: one\r\n");
  EXPECT_EQ(got.Json()["output"][0]["content"][0]["text"], "Hello");
  const Json items = Ask("GET", path + "/input_items", "", "X-Api-Key: one\r\n").Json();
  EXPECT_EQ(items["data"][0]["content"][0]["text"], "Hello");
  EXPECT_EQ(
      Ask("POST", kResponsesPath, R"({"input":"x","previous_response_id":")" + id + "\"}").status,
      400);
  EXPECT_EQ(Ask("DELETE", path).status, 404);
  EXPECT_EQ(Ask("DELETE", path, "", "X-Api-Key: one\r\n").Json()["deleted"], true);
  EXPECT_EQ(Ask("GET", path, "", "X-Api-Key: one\r\n").status, 404);
}

TEST_F(ResponsesDoorTest, KeepsNothingUnasked) {
  const std::string id = Create(1, R"({"input":"Hello","store":false})")["id"];
  EXPECT_EQ(Ask("GET", std::string(kResponsesPath) + "/" + id).status, 404);
}

TEST_F(ResponsesDoorTest, NamesTheFieldThatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":[1]})", "input[0]"},
      {R"({"input":[{"role":"bard","content":"x"}]})", "input[0].role"},
      {R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})",
       "input[0].content[0].type"},
      {R"({"input":[{"type":"item_reference","id":"x"}]})", "input[0].type"},
      {R"({"input":[{"type":"function_call_output","call_id":"x"}]})", "input[0].output"},
      {R"({"input":"x","tools":[{"type":"web_search"}]})", "tools[0].type"},
      {R"({"input":"x","tools":[{"type":"function","name":"a b"}]})", "tools[0].name"},
      {R"({"input":"x","text":{"format":{"type":"xml"}}})", "text.format.type"},
      {R"({"input":"x","background":true})", "background"},
      {R"({"input":"x","truncation":"some"})", "truncation"},
      {R"({"input":"x","previous_response_id":"resp_none"})", "previous_response_id"},
      {R"({"input":"x","frobnicate":1})", "frobnicate"},
  };
  for (const auto& [body, param] : cases) {
    const TestReply reply = Ask("POST", kResponsesPath, body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_EQ(reply.Json()["error"]["param"], param) << reply.body;
  }
  EXPECT_EQ(engine_.submitted(), 0u);
}

StoredResponse Stored(const std::string& id, std::size_t bytes) {
  return {
      .id = id, .owner = "o", .messages = {}, .json = std::string(bytes, 'x'), .input_items = ""};
}

TEST(ResponseStore, LetsTheOldestGo) {
  ResponseStore store(10000);
  store.Put(Stored("a", 3000));
  store.Put(Stored("b", 3000));
  // Used: b is the oldest now.
  EXPECT_NE(store.Get("a", "o"), nullptr);
  store.Put(Stored("c", 3000));
  EXPECT_EQ(store.Get("b", "o"), nullptr);
  EXPECT_NE(store.Get("a", "o"), nullptr);
  EXPECT_NE(store.Get("c", "o"), nullptr);
  store.Put(Stored("d", 20000));
  EXPECT_EQ(store.Get("d", "o"), nullptr);
  EXPECT_NE(store.Get("a", "o"), nullptr);
  store.Put(Stored("a", 100));
  EXPECT_EQ(store.Get("a", "o")->json.size(), 100u);
  EXPECT_FALSE(store.Delete("a", "p"));
  EXPECT_TRUE(store.Delete("a", "o"));
  EXPECT_FALSE(store.Delete("a", "o"));
}

}  // namespace
}  // namespace tandem
