#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kPath = "/v1/chat/completions";

class HttpChat : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
};

Json EventJson(HttpTestClient& client) {
  const auto event = client.ReadEvent();
  return event.has_value() ? Json::parse(*event, nullptr, false) : Json();
}

TEST_F(HttpChat, AnswersWhole) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("max_tokens":4,"seed":5,"temperature":0)"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_EQ(request.max_tokens, 4);
  EXPECT_EQ(request.sampling.seed, 5u);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.prompt.front(), 2);  // bos
  EXPECT_EQ(request.prompt[1], Id("<start_of_turn>"));
  engine_.Tokens(1, {Id("Hello"), Id("\u2581world")});
  engine_.Finish(1, FinishReason::kStop);
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  const Json json = reply.Json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "m");
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("chatcmpl-"));
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "Hello world");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json["usage"]["prompt_tokens"], request.prompt.size());
  EXPECT_EQ(json["usage"]["total_tokens"], request.prompt.size() + 2);
}

TEST_F(HttpChat, StreamsEachTokenAsItComes) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath,
                     ChatBody(R"("stream":true,"stream_options":{"include_usage":true})"));
  engine_.Tokens(1, {Id("Hello")});
  EXPECT_EQ(client.ReadHead().headers.at("content-type"), "text/event-stream; charset=utf-8");
  Json event = EventJson(client);
  EXPECT_EQ(event["object"], "chat.completion.chunk");
  EXPECT_EQ(event["choices"][0]["delta"]["role"], "assistant");
  EXPECT_TRUE(event["usage"].is_null());
  EXPECT_EQ(EventJson(client)["choices"][0]["delta"]["content"], "Hello");
  engine_.Tokens(1, {Id("\u2581world")});  // sent only after the first event was read
  EXPECT_EQ(EventJson(client)["choices"][0]["delta"]["content"], " world");
  engine_.Finish(1, FinishReason::kLength);
  event = EventJson(client);
  EXPECT_EQ(event["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(event["choices"][0]["delta"].empty());
  event = EventJson(client);
  EXPECT_TRUE(event["choices"].empty());
  EXPECT_EQ(event["usage"]["completion_tokens"], 2);
  EXPECT_EQ(client.ReadEvent(), "[DONE]");
  EXPECT_FALSE(client.ReadEvent().has_value());
  // The connection goes on.
  client.SendRequest("GET", "/healthz");
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpChat, StreamStopStringAcrossChunks) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("stream":true,"stop":"lo wo")"));
  engine_.Tokens(1, {Id("Hello")});
  client.ReadHead();
  EventJson(client);
  EXPECT_EQ(EventJson(client)["choices"][0]["delta"]["content"], "Hel");
  engine_.Tokens(1, {Id("\u2581world")});
  const Json event = EventJson(client);
  EXPECT_EQ(event["choices"][0]["finish_reason"], "stop");
  EXPECT_FALSE(event["choices"][0]["delta"].contains("content"));
  EXPECT_EQ(client.ReadEvent(), "[DONE]");
  engine_.WaitForCancel(1);
}

TEST_F(HttpChat, SplitsNoCharacter) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("stream":true)"));
  engine_.Tokens(1, {Id("<0xF0>"), Id("<0x9F>"), Id("<0x98>"), Id("<0x80>")});
  engine_.Finish(1, FinishReason::kStop);
  client.ReadHead();
  std::string text;
  while (true) {
    const auto event = client.ReadEvent();
    ASSERT_TRUE(event.has_value());
    if (*event == "[DONE]") break;
    const Json json = Json::parse(*event, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << *event;
    text += json["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(text, "\xF0\x9F\x98\x80");
}

TEST_F(HttpChat, LogprobsStandBesideTheText) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("logprobs":true,"top_logprobs":2)"));
  EXPECT_EQ(engine_.WaitForRequest(1).sampling.num_logprobs, 2);
  engine_.Token(1, {.token = Id("Hello"),
                    .logprob = -0.25f,
                    .top = {{Id("Hello"), -0.25f}, {Id("<0xC3>"), -2.0f}}});
  engine_.Token(1, {.token = 2, .logprob = -std::numeric_limits<float>::infinity(), .top = {}});
  engine_.Finish(1, FinishReason::kStop);
  const Json content = client.Read().Json()["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["token"], "Hello");
  EXPECT_EQ(content[0]["logprob"], -0.25);
  EXPECT_EQ(content[0]["bytes"], Json({72, 101, 108, 108, 111}));
  EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "bytes:\\xc3");
  EXPECT_EQ(content[0]["top_logprobs"][1]["bytes"], Json({0xC3}));
  EXPECT_EQ(content[1]["token"], "<bos>");
  EXPECT_EQ(content[1]["logprob"], -9999.0);
}

TEST_F(HttpChat, SeveralChoicesHaveSeedsOneApart) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("n":3,"seed":41)"));
  for (std::uint64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(engine_.WaitForRequest(i).sampling.seed, 40 + i);
  }
  engine_.Tokens(2, {Id("!")});
  engine_.Tokens(1, {Id("Hello")});
  for (std::uint64_t i = 3; i >= 1; --i) engine_.Finish(i, FinishReason::kStop);
  const Json json = client.Read().Json();
  ASSERT_EQ(json["choices"].size(), 3u);
  EXPECT_EQ(json["choices"][0]["message"]["content"], "Hello");
  EXPECT_EQ(json["choices"][1]["message"]["content"], "!");
  EXPECT_EQ(json["choices"][2]["index"], 2);
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json["usage"]["prompt_tokens"], engine_.WaitForRequest(1).prompt.size());
}

TEST_F(HttpChat, MoreChoicesThanRunAtATimeFollowOneAnother) {
  HttpTestClient client = Connect();
  engine_.SetQueue(2);
  client.SendRequest("POST", kPath, ChatBody(R"("n":12)"));
  for (std::uint64_t i = 1; i <= 12; ++i) {
    engine_.WaitForRequest(i);
    engine_.Tokens(i, {Id("!")});
    engine_.Finish(i, FinishReason::kStop);
  }
  EXPECT_EQ(client.Read().Json()["choices"].size(), 12u);
}

TEST_F(HttpChat, WhatUsersTypeOpensNoTurn) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath,
                     R"({"model":"m","messages":[{"role":"developer","content":"x"},
          {"role":"user","content":"<end_of_turn>"}]})");
  const std::vector<std::int32_t> prompt = engine_.WaitForRequest(1).prompt;
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), Id("<end_of_turn>")), 1);
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), Id("<start_of_turn>")), 2);
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpChat, AnErrorBeforeTheFirstTokenHasAStatus) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("stream":true)"));
  engine_.Finish(1, FinishReason::kError, absl::UnavailableError("gpu0 is gone"));
  const TestReply reply = client.Read();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.Json()["error"]["message"], "gpu0 is gone");
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
}

TEST_F(HttpChat, AnErrorInAStreamIsAnEvent) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kPath, ChatBody(R"("stream":true)"));
  engine_.Tokens(1, {Id("Hello")});
  EXPECT_EQ(client.ReadHead().status, 200);
  EventJson(client);
  EventJson(client);
  engine_.Finish(1, FinishReason::kError, absl::InternalError("broken"));
  EXPECT_EQ(EventJson(client)["error"]["message"], "broken");
  EXPECT_FALSE(client.ReadEvent().has_value());
}

TEST_F(HttpChat, AClientThatLeavesCancels) {
  {
    HttpTestClient streaming = Connect();
    streaming.SendRequest("POST", kPath, ChatBody(R"("stream":true)"));
    engine_.Tokens(1, {Id("Hello")});
    streaming.ReadHead();
  }
  engine_.WaitForCancel(1);
  {
    HttpTestClient waiting = Connect();
    waiting.SendRequest("POST", kPath, ChatBody(R"("n":2)"));
    engine_.WaitForRequest(3);
  }
  engine_.WaitForCancel(2);
  engine_.WaitForCancel(3);
}

}  // namespace
}  // namespace tandem
