#include "gateway/ingress/doors/openai/openai_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gateway/ingress/request/error.h"

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
  const auto request = ReadChatRequest(body);
  return request.ok()
             ? ApiError{.http_status = 200, .message = "", .type = "", .param = "", .code = ""}
             : ToApiError(request.status());
}

ApiError CompletionError(const std::string& body) {
  const auto request = ReadCompletionRequest(body);
  return request.ok()
             ? ApiError{.http_status = 200, .message = "", .type = "", .param = "", .code = ""}
             : ToApiError(request.status());
}

TEST(ChatRequest, ReadsEveryParameter) {
  const auto request = ReadChatRequest(R"({
    "model": "m", "messages": [{"role": "system", "content": "be brief", "name": "x"},
                               {"role": "user", "content": [{"type": "text", "text": " a "},
                                                            {"type": "text", "text": "b"}]}],
    "max_completion_tokens": 7.0, "temperature": 0, "top_p": 0.5, "top_k": 4, "min_p": 0.1,
    "seed": -3, "stop": ["x", "yz"], "n": 2, "logprobs": true, "top_logprobs": 20,
    "logit_bias": {"9": 1.5, "3": -100}, "frequency_penalty": -2, "presence_penalty": 2,
    "stream": true, "stream_options": {"include_usage": true}, "user": "u", "ignore_eos": true,
    "return_tokens_as_token_ids": true})");
  ASSERT_TRUE(request.ok()) << request.status();
  const InferenceRequest& common = *request;
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
  EXPECT_TRUE(common.tokens_as_ids);
  ASSERT_EQ(std::get<ChatPrompt>(request->prompts[0]).messages.size(), 2u);
  EXPECT_EQ(std::get<ChatPrompt>(request->prompts[0]).messages[1].parts,
            (std::vector<std::string>{" a ", "b"}));
}

TEST(ChatRequest, DefaultsAreOpenAis) {
  const auto request = ReadChatRequest(Chat(""));
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->sampling.temperature, 1.0f);
  EXPECT_EQ(request->sampling.top_p, 1.0f);
  EXPECT_EQ(request->sampling.num_logprobs, -1);
  EXPECT_FALSE(request->max_tokens.has_value());
  EXPECT_FALSE(request->has_seed);
  EXPECT_EQ(request->n, 1);
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
      {R"("n":1025)", "n"},
      {R"("n":true)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":99999999999)", "max_tokens"},
      {R"("max_tokens":-2)", "max_tokens"},
      {R"("seed":1e30)", "seed"},
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
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"web_search"}])", "tools[0].type"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":1}}])",
       "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},
                   {"type":"function","function":{"name":"f"}}])",
       "tools"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":"sometimes")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("continue_final_message":true,"add_generation_prompt":true)", "continue_final_message"},
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
        R"("n":1,"n":2)", R"("max_tokens":-1,"max_completion_tokens":5)",
        R"("keep_alive":"5m","cache_prompt":true,"id_slot":-1,"ttl":60,"priority":1)",
        R"("repeat_penalty":1.0,"mirostat":0,"samplers":[],"guided_json":null)",
        R"("reasoning_effort":"low","prompt_cache_key":"x","chat_template_kwargs":{"a":1})"}) {
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
  EXPECT_EQ(error_of(R"([{"role":"bard","content":"x"}])").param, "messages[0].role");
  EXPECT_EQ(error_of(R"([{"role":"tool","content":"x"}])").param, "messages[0].tool_call_id");
  EXPECT_EQ(error_of(R"([{"role":"system","content":null}])").param, "messages[0].content");
  EXPECT_EQ(error_of(R"([{"role":"user","content":"x","images":["y"]}])").param,
            "messages[0].images");
  EXPECT_EQ(error_of(R"([{"role":"user"}])").param, "messages[0].content");
  EXPECT_EQ(error_of(R"([{"role":"user","content":[]}])").param, "messages[0].content");
  EXPECT_EQ(error_of(R"([{"role":"user","content":[{"type":"text"}]}])").param,
            "messages[0].content[0].text");
  const ApiError image =
      error_of(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])");
  EXPECT_EQ(image.param, "messages[0].content[0].type");
  EXPECT_NE(image.message.find("image"), std::string::npos);
  EXPECT_EQ(error_of(R"([{"role":"assistant","content":"x","tool_calls":[{"id":"1"}]}])").param,
            "messages[0].tool_calls[0].function");
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
}

TEST(ChatRequest, TheSmallerLimitCountsAndMinusOneIsNone) {
  EXPECT_EQ(ReadChatRequest(Chat(R"("max_tokens":4,"max_completion_tokens":5)"))->max_tokens, 4);
  EXPECT_EQ(ReadChatRequest(Chat(R"("max_tokens":-1,"max_completion_tokens":5)"))->max_tokens, 5);
  EXPECT_EQ(ReadChatRequest(Chat(R"("max_tokens":-1)"))->max_tokens, std::nullopt);
}

TEST(ChatRequest, NeedsNoModel) {
  for (const char* body : {R"({"messages":[{"role":"user","content":"x"}]})",
                           R"({"model":null,"messages":[{"role":"user","content":"x"}]})",
                           R"({"model":"","messages":[{"role":"user","content":"x"}]})"}) {
    const auto request = ReadChatRequest(body);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->model, "");
  }
  EXPECT_EQ(ChatError(R"({"model":1,"messages":[{"role":"user","content":"x"}]})").param, "model");
}

TEST(ChatRequest, ReadsToolsAsTheyAreWritten) {
  const auto request = ReadChatRequest(Chat(R"(
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "strict": true,
               "parameters": {"type":"object","properties":{"z":{},"a":{}}}}},
              {"type": "function", "function": {"name": "g"}}],
    "tool_choice": {"type": "function", "function": {"name": "g"}}, "parallel_tool_calls": false,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true,
                        "schema": { "b" : 1, "a": 2 }}})"));
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_EQ(request->tools.size(), 2u);
  EXPECT_EQ(request->tools[0].description, "d");
  EXPECT_TRUE(request->tools[0].strict);
  // The order of the members is the author's.
  EXPECT_EQ(request->tools[0].parameters, R"({"type":"object","properties":{"z":{},"a":{}}})");
  EXPECT_EQ(request->tools[1].parameters, "");
  EXPECT_EQ(request->tool_choice.mode, ToolChoice::Mode::kNamed);
  EXPECT_EQ(request->tool_choice.name, "g");
  EXPECT_FALSE(request->parallel_tool_calls);
  EXPECT_EQ(request->response_format.kind, ResponseFormat::Kind::kJsonSchema);
  EXPECT_EQ(request->response_format.definition, R"({ "b" : 1, "a": 2 })");
  EXPECT_TRUE(request->response_format.strict);
}

TEST(ChatRequest, ReadsCallsAndTheirResults) {
  const auto request = ReadChatRequest(R"({"messages": [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
    {"role": "assistant"}]})");
  ASSERT_TRUE(request.ok()) << request.status();
  const std::vector<Message>& messages = std::get<ChatPrompt>(request->prompts[0]).messages;
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_TRUE(messages[1].parts.empty());
  EXPECT_EQ(messages[1].tool_calls,
            (std::vector<ToolCall>{{.id = "c1", .name = "f", .arguments = "{}"}}));
  EXPECT_EQ(messages[2].role, Role::kTool);
  EXPECT_EQ(messages[2].tool_call_id, "c1");
  EXPECT_EQ(messages[2].parts, std::vector<std::string>{"42"});
}

TEST(ChatRequest, IgnoresUnknownFieldsOnlyWhereItMay) {
  const ReadOptions ignore{.ignore_unknown = true};
  const auto request = ReadChatRequest(Chat("\"a\\u0000b\\r\\n\":1,\"frobnicate\":2"), ignore);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->ignored_fields, (std::vector<std::string>{"a?b??", "frobnicate"}));
  // What would change the answer is refused all the same.
  EXPECT_FALSE(ReadChatRequest(Chat(R"("repetition_penalty":1.1)"), ignore).ok());
  std::string many;
  for (int i = 0; i < 1000; ++i) many += (i == 0 ? "\"f" : ",\"f") + std::to_string(i) + "\":1";
  EXPECT_EQ(ReadChatRequest(Chat(many), ignore)->ignored_fields.size(), 16u);
}

TEST(CompletionRequest, ReadsTheFourFormsOfPrompts) {
  const auto prompts = [](const std::string& prompt) {
    auto request = ReadCompletionRequest(R"({"model":"m","prompt":)" + prompt + "}");
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
  EXPECT_EQ(CompletionError(Completion(R"("max_tokens":-2)")).param, "max_tokens");
  EXPECT_EQ(CompletionError(Completion(R"("messages":[])")).param, "messages");
  std::string many = R"({"model":"m","n":600,"prompt":["a","b"]})";
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
