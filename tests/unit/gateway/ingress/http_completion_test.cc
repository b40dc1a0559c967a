#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kCompletionsPath = "/v1/completions";

class HttpCompletion : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(HttpCompletion, AnswersWhole) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath, CompletionBody());
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_EQ(request.prompt, (std::vector<std::int32_t>{2, Id("Hello")}));
  EXPECT_EQ(request.max_tokens, 16);  // OpenAI's default
  EXPECT_FALSE(request.score_prompt);
  engine_.Tokens(1, {Id("\u2581world")});
  engine_.Finish(1, FinishReason::kLength);
  const Json json = client.Read().Json();
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(json["choices"][0]["text"], " world");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(json["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(json["usage"]["prompt_tokens"], 2);
}

TEST_F(HttpCompletion, EchoWithLogprobsScoresThePrompt) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath,
                     CompletionBody(R"("echo":true,"logprobs":2,"max_tokens":1)"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_TRUE(request.score_prompt);
  EXPECT_EQ(request.sampling.num_logprobs, 2);
  engine_.Scores(
      1, {{.token = Id("Hello"), .logprob = -3.0f, .top = {{Id("!"), -0.5f}, {Id("He"), -1.5f}}}});
  engine_.Token(1, {.token = Id("!"), .logprob = -0.5f, .top = {{Id("!"), -0.5f}, {5, -1.0f}}});
  engine_.Finish(1, FinishReason::kLength);
  const Json choice = client.Read().Json()["choices"][0];
  EXPECT_EQ(choice["text"], "Hello!");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json({"<bos>", "Hello", "!"}));
  EXPECT_EQ(logprobs["token_logprobs"], Json({nullptr, -3.0, -0.5}));
  EXPECT_EQ(logprobs["text_offset"], Json({0, 0, 5}));
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][1], Json({{"!", -0.5}, {"He", -1.5}, {"Hello", -3.0}}));
  EXPECT_EQ(logprobs["top_logprobs"][2], Json({{"!", -0.5}, {"<end_of_turn>", -1.0}}));
}

TEST_F(HttpCompletion, EchoWithoutTokensScoresOnly) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath,
                     CompletionBody(
                         R"("prompt":[2,262,263],"echo":true,"logprobs":0,"max_tokens":0,
             "return_tokens_as_token_ids":true)"));
  const GenerationRequest request = engine_.WaitForRequest(1);
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.prompt, (std::vector<std::int32_t>{2, 262, 263}));
  engine_.Scores(1, {{.token = 262, .logprob = -1.0f, .top = {}},
                     {.token = 263, .logprob = -2.0f, .top = {}}});
  engine_.Finish(1, FinishReason::kLength);
  const Json choice = client.Read().Json()["choices"][0];
  EXPECT_EQ(choice["text"], "Hell");
  EXPECT_EQ(choice["logprobs"]["tokens"], Json({"token_id:2", "token_id:262", "token_id:263"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json({nullptr, -1.0, -2.0}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][2], Json({{"token_id:263", -2.0}}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], Json({0, 0, 2}));
}

TEST_F(HttpCompletion, EchoOfNothingMoreNeedsNoEngine) {
  const TestReply reply =
      Ask("POST", kCompletionsPath, CompletionBody(R"("echo":true,"max_tokens":0)"));
  EXPECT_EQ(reply.Json()["choices"][0]["text"], "Hello");
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(HttpCompletion, ManyPromptsAndChoicesKeepTheirOrder) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath,
                     CompletionBody(R"("prompt":["Hello","!"],"n":2,"max_tokens":1)"));
  for (std::uint64_t i = 1; i <= 4; ++i) {
    const GenerationRequest request = engine_.WaitForRequest(i);
    EXPECT_EQ(request.prompt[1], i <= 2 ? Id("Hello") : Id("!"));
    engine_.Tokens(i, {Id(std::string(1, static_cast<char>('a' + i)))});
    engine_.Finish(i, FinishReason::kLength);
  }
  const Json json = client.Read().Json();
  ASSERT_EQ(json["choices"].size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(json["choices"][i]["index"], i);
    EXPECT_EQ(json["choices"][i]["text"], std::string(1, static_cast<char>('b' + i)));
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], 4);  // each prompt once
}

TEST_F(HttpCompletion, StreamsWithEchoAndLogprobs) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath,
                     CompletionBody(R"("stream":true,"echo":true,"logprobs":0)"));
  engine_.Scores(1, {{.token = Id("Hello"), .logprob = -3.0f, .top = {}}});
  client.ReadHead();
  Json event = Json::parse(*client.ReadEvent());
  EXPECT_EQ(event["choices"][0]["text"], "Hello");
  EXPECT_EQ(event["choices"][0]["logprobs"]["token_logprobs"], Json({nullptr, -3.0}));
  engine_.Tokens(1, {Id("!")});
  event = Json::parse(*client.ReadEvent());
  EXPECT_EQ(event["choices"][0]["text"], "!");
  EXPECT_EQ(event["choices"][0]["logprobs"]["text_offset"], Json({5}));
  engine_.Finish(1, FinishReason::kStop);
  event = Json::parse(*client.ReadEvent());
  EXPECT_EQ(event["choices"][0]["text"], "");
  EXPECT_EQ(event["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(client.ReadEvent(), "[DONE]");
}

TEST_F(HttpCompletion, StopStringsCutLogprobsToo) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", kCompletionsPath, CompletionBody(R"("logprobs":0,"stop":["d!"])"));
  engine_.Tokens(1, {Id("He"), Id("ld"), Id("!"), Id("!")});
  const Json json = client.Read().Json();
  EXPECT_EQ(json["choices"][0]["text"], "Hel");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["choices"][0]["logprobs"]["tokens"], Json({"He", "ld"}));
  EXPECT_EQ(json["usage"]["completion_tokens"], 3);
}

}  // namespace
}  // namespace tandem
