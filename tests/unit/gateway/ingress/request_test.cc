#include "gateway/ingress/openai/request.h"

#include <gtest/gtest.h>

#include <string>

#include "gateway/ingress/openai/error.h"

namespace tandem {
namespace {

std::string Chat(const std::string& members) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
         (members.empty() ? "" : "," + members) + "}";
}

std::string Completion(const std::string& members) {
  return R"({"model":"m","prompt":"hi")" + (members.empty() ? "" : "," + members) + "}";
}

ApiError ChatError(const std::string& body) {
  const auto request = ParseChatRequest(body);
  return request.ok()
             ? ApiError{.http_status = 200, .message = "", .type = "", .param = "", .code = ""}
             : ToApiError(request.status());
}

ApiError CompletionError(const std::string& body) {
  const auto request = ParseCompletionRequest(body);
  return request.ok()
             ? ApiError{.http_status = 200, .message = "", .type = "", .param = "", .code = ""}
             : ToApiError(request.status());
}

TEST(ChatRequest, ReadsEveryParameter) {
  const auto request = ParseChatRequest(R"({
    "model": "m", "messages": [{"role": "system", "content": "be brief", "name": "x"},
                               {"role": "user", "content": [{"type": "text", "text": " a "},
                                                            {"type": "text", "text": "b"}]}],
    "max_completion_tokens": 7.0, "temperature": 0, "top_p": 0.5, "top_k": 4, "min_p": 0.1,
    "seed": -3, "stop": ["x", "yz"], "n": 2, "logprobs": true, "top_logprobs": 20,
    "logit_bias": {"9": 1.5, "3": -100}, "frequency_penalty": -2, "presence_penalty": 2,
    "stream": true, "stream_options": {"include_usage": true}, "user": "u", "ignore_eos": true,
    "return_tokens_as_token_ids": true})");
  ASSERT_TRUE(request.ok()) << request.status();
  const CommonRequest& common = request->common;
  EXPECT_EQ(common.max_tokens, 7);
  EXPECT_EQ(common.sampling.temperature, 0.0f);
  EXPECT_EQ(common.sampling.top_p, 0.5f);
  EXPECT_EQ(common.sampling.top_k, 4);
  EXPECT_EQ(common.sampling.min_p, 0.1f);
  EXPECT_TRUE(common.has_seed);
  EXPECT_EQ(common.sampling.seed, static_cast<std::uint64_t>(-3));
  EXPECT_EQ(common.stops, (std::vector<std::string>{"x", "yz"}));
  EXPECT_EQ(common.n, 2);
  EXPECT_EQ(common.sampling.num_logprobs, 20);
  ASSERT_EQ(common.sampling.logit_bias.size(), 2u);
  EXPECT_EQ(common.sampling.logit_bias[0], (std::pair<std::int32_t, float>(3, -100.0f)));
  EXPECT_EQ(common.sampling.frequency_penalty, -2.0f);
  EXPECT_EQ(common.sampling.presence_penalty, 2.0f);
  EXPECT_TRUE(common.stream && common.include_usage && common.ignore_eos);
  EXPECT_TRUE(common.return_tokens_as_token_ids);
  ASSERT_EQ(request->messages.size(), 2u);
  EXPECT_EQ(request->messages[1].content, "ab");
}

TEST(ChatRequest, DefaultsAreOpenAis) {
  const auto request = ParseChatRequest(Chat(""));
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->common.sampling.temperature, 1.0f);
  EXPECT_EQ(request->common.sampling.top_p, 1.0f);
  EXPECT_EQ(request->common.sampling.num_logprobs, -1);
  EXPECT_FALSE(request->common.max_tokens.has_value());
  EXPECT_FALSE(request->common.has_seed);
  EXPECT_EQ(request->common.n, 1);
}

struct BadField {
  const char* members;
  const char* param;
};

TEST(ChatRequest, NamesTheFieldThatIsWrong) {
  const BadField cases[] = {
      {R"("temperature":2.1)", "temperature"},
      {R"("temperature":"hot")", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_p":1.01)", "top_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":1.5)", "top_k"},
      {R"("min_p":1)", "min_p"},
      {R"("n":0)", "n"},
      {R"("n":129)", "n"},
      {R"("n":true)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":99999999999)", "max_tokens"},
      {R"("max_tokens":4,"max_completion_tokens":5)", "max_tokens"},
      {R"("seed":1e30)", "seed"},
      {R"("stop":["a","b","c","d","e"])", "stop"},
      {R"("stop":[1])", "stop"},
      {R"("stop":"")", "stop"},
      {R"("logprobs":5)", "logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("frequency_penalty":2.5)", "frequency_penalty"},
      {R"("presence_penalty":-2.5)", "presence_penalty"},
      {R"("stream":"yes")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":{"other":1})", "stream_options.other"},
      {R"("tools":[{"type":"function"}])", "tools"},
      {R"("response_format":{"type":"json_object"})", "response_format"},
      {R"("modalities":["audio"])", "modalities"},
      {R"("repetition_penalty":1.1)", "repetition_penalty"},
      {R"("no_such_field":1)", "no_such_field"},
  };
  for (const BadField& entry : cases) {
    const ApiError error = ChatError(Chat(entry.members));
    EXPECT_EQ(error.http_status, 400) << entry.members;
    EXPECT_EQ(error.param, entry.param) << entry.members << ": " << error.message;
    EXPECT_EQ(error.type, "invalid_request_error");
  }
}

TEST(ChatRequest, IgnoresWhatChangesNothing) {
  for (const char* members :
       {R"("store":true,"metadata":{"a":"b"},"user":"u","service_tier":"auto")",
        R"("tools":[],"tool_choice":"auto","response_format":{"type":"text"})",
        R"("repetition_penalty":1,"modalities":["text"],"parallel_tool_calls":true)",
        R"("temperature":null,"tools":null,"stop":null,"logprobs":null,"top_logprobs":0)",
        R"("n":1,"n":2)"}) {
    EXPECT_EQ(ChatError(Chat(members)).http_status, 200) << members;
  }
}

TEST(ChatRequest, NamesTheMessageThatIsWrong) {
  const auto error_of = [](const std::string& messages) {
    return ChatError(R"({"model":"m","messages":)" + messages + "}");
  };
  EXPECT_EQ(error_of("[]").param, "messages");
  EXPECT_EQ(error_of("\"hi\"").param, "messages");
  EXPECT_EQ(error_of("[1]").param, "messages[0]");
  EXPECT_EQ(error_of(R"([{"content":"x"}])").param, "messages[0].role");
  EXPECT_EQ(error_of(R"([{"role":"tool","content":"x"}])").param, "messages[0].role");
  EXPECT_EQ(error_of(R"([{"role":"user"}])").param, "messages[0].content");
  EXPECT_EQ(error_of(R"([{"role":"user","content":[]}])").param, "messages[0].content");
  EXPECT_EQ(error_of(R"([{"role":"user","content":[{"type":"text"}]}])").param,
            "messages[0].content[0].text");
  const ApiError image =
      error_of(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])");
  EXPECT_EQ(image.param, "messages[0].content[0].type");
  EXPECT_NE(image.message.find("image"), std::string::npos);
  EXPECT_EQ(error_of(R"([{"role":"assistant","content":"x","tool_calls":[{"id":"1"}]}])").param,
            "messages[0].tool_calls");
}

TEST(ChatRequest, RefusesBrokenBodies) {
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("nul"),
        std::string("{\"model\":\"m\"} x"), std::string("{\"model\":\"\xff\"}"),
        std::string("{\"model\":\"\\ud800\"}"), std::string("{\"temperature\":1e999}"),
        std::string("{\"temperature\":NaN}"), "{\"a\":" + std::string(100000, '[')}) {
    const ApiError error = ChatError(body);
    EXPECT_EQ(error.http_status, 400) << body.substr(0, 40);
    EXPECT_FALSE(error.message.empty());
  }
  EXPECT_EQ(ChatError(R"({"messages":[{"role":"user","content":"x"}]})").param, "model");
}

TEST(CompletionRequest, ReadsTheFourFormsOfPrompts) {
  const auto prompts = [](const std::string& prompt) {
    auto request = ParseCompletionRequest(R"({"model":"m","prompt":)" + prompt + "}");
    EXPECT_TRUE(request.ok()) << prompt << request.status();
    return request.ok() ? request->prompts : std::vector<Prompt>();
  };
  EXPECT_EQ(prompts(R"("a")"), std::vector<Prompt>{std::string("a")});
  EXPECT_EQ(prompts(R"(["a","b"])"), (std::vector<Prompt>{std::string("a"), std::string("b")}));
  EXPECT_EQ(prompts("[1,2.0]"), (std::vector<Prompt>{std::vector<std::int32_t>{1, 2}}));
  EXPECT_EQ(prompts("[[1],[2,3]]"),
            (std::vector<Prompt>{std::vector<std::int32_t>{1}, std::vector<std::int32_t>{2, 3}}));
}

TEST(CompletionRequest, NamesTheFieldThatIsWrong) {
  for (const char* prompt : {"[]", "1", "[\"a\",1]", "[1,\"a\"]", "[[1],[]]", "[[1],2]", "[1.5]",
                             "[-1]", "[99999999999]", "{}", "null"}) {
    const ApiError error = CompletionError(std::string(R"({"model":"m","prompt":)") + prompt + "}");
    EXPECT_EQ(error.http_status, 400) << prompt;
    EXPECT_EQ(error.param, "prompt") << prompt;
  }
  EXPECT_EQ(CompletionError(Completion(R"("logprobs":21)")).param, "logprobs");
  EXPECT_EQ(CompletionError(Completion(R"("logprobs":true)")).param, "logprobs");
  EXPECT_EQ(CompletionError(Completion(R"("best_of":2)")).param, "best_of");
  EXPECT_EQ(CompletionError(Completion(R"("suffix":"x")")).param, "suffix");
  EXPECT_EQ(CompletionError(Completion(R"("max_tokens":-1)")).param, "max_tokens");
  EXPECT_EQ(CompletionError(Completion(R"("messages":[])")).param, "messages");
  std::string many = R"({"model":"m","n":100,"prompt":["a","b"]})";
  EXPECT_EQ(CompletionError(many).param, "prompt");
  EXPECT_EQ(CompletionError(Completion(R"("max_tokens":0,"echo":true,"best_of":1)")).http_status,
            200);
}

TEST(ErrorJson, HasOpenAisShape) {
  EXPECT_EQ(ErrorJson(ToApiError(InvalidField("n", "bad \xff n"))),
            "{\"error\":{\"message\":\"bad \xEF\xBF\xBD n\",\"type\":\"invalid_request_error\","
            "\"param\":\"n\",\"code\":null}}");
  EXPECT_EQ(ToApiError(ModelNotFound("x")).code, "model_not_found");
  EXPECT_EQ(ToApiError(ModelNotFound("x")).http_status, 404);
  EXPECT_EQ(ToApiError(absl::ResourceExhaustedError("x")).http_status, 429);
  EXPECT_EQ(ToApiError(absl::UnavailableError("x")).http_status, 503);
  EXPECT_EQ(ToApiError(absl::InternalError("x")).http_status, 500);
  EXPECT_EQ(ToApiError(absl::UnauthenticatedError("x")).http_status, 401);
}

}  // namespace
}  // namespace tandem
