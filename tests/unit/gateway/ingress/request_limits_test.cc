#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/grpc/generate_call.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/json_fields.h"
#include "lib/base/strings.h"
#include "tests/unit/gateway/ingress/fake_engine.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// Limits that an operator has set, for every door at once.
class RequestLimitsTest : public ::testing::Test {
 protected:
  RequestLimitsTest() {
    serving_.model.id = "m";
    serving_.model.tokenizer = TestTokenizer();
    serving_.engine = &engine_;
  }

  // "" where the request is taken, else the name of the field and the message.
  std::string Completion(const std::string& members) {
    return Outcome(ReadCompletionRequest(Cat("{", members, "}")));
  }
  std::string Chat(const std::string& members) {
    return Outcome(
        ReadChatRequest(Cat(R"({"messages":[{"role":"user","content":"Hello"}],)", members, "}")));
  }
  std::string Outcome(absl::StatusOr<InferenceRequest> request) {
    absl::Status status = request.status();
    if (status.ok()) status = PlanAnswers(serving_, *request).status();
    if (status.ok()) return "";
    const ApiError error = ToApiError(status);
    EXPECT_EQ(error.http_status, 400) << error.message;
    return Cat(error.param, ": ", error.message);
  }

  FakeEngine engine_;
  Serving serving_;
};

TEST_F(RequestLimitsTest, AreOpenAisUnlessSet) {
  EXPECT_EQ(Completion(R"("prompt":"Hello","stop":["a","b","c","d"])"), "");
  EXPECT_THAT(Completion(R"("prompt":"Hello","stop":["a","b","c","d","e"])"),
              HasSubstr("stop: 'stop': expected at most 4 strings, found 5"));
  EXPECT_EQ(Completion(R"("prompt":["Hello","Hell"],"n":64)"), "");
  EXPECT_THAT(Completion(R"("prompt":["Hello","Hell"],"n":65)"), HasSubstr("n: "));
  const nlohmann::json prompts(std::vector<std::string>(129, "Hello"));
  EXPECT_THAT(Completion(Cat(R"("prompt":)", prompts.dump())),
              HasSubstr("prompt: prompts times 'n': expected at most 128 choices, found 129"));
}

TEST_F(RequestLimitsTest, MayBeOthers) {
  serving_.limits = {.max_stops = 6, .max_choices = 2, .max_schema = 40};
  EXPECT_EQ(Completion(R"("prompt":"Hello","stop":["a","b","c","d","e","f"])"), "");
  EXPECT_THAT(Completion(R"("prompt":"Hello","stop":["a","b","c","d","e","f","g"])"),
              HasSubstr("at most 6"));
  EXPECT_EQ(Completion(R"("prompt":"Hello","n":2)"), "");
  EXPECT_THAT(Chat(R"("n":3)"), HasSubstr("n: prompts times 'n': expected at most 2"));
  v1::GenerateRequest request;
  request.set_text("Hello");
  for (int i = 0; i < 7; ++i) request.add_stop(std::string(1, static_cast<char>('a' + i)));
  EXPECT_THAT(std::string(PlanGenerate(serving_, request).status().message()),
              HasSubstr("at most 6 strings, found 7"));
  serving_.limits.max_stops = 0;
  EXPECT_THAT(Completion(R"("prompt":"Hello","stop":"a")"), HasSubstr("at most 0"));
}

// The schemas of all tools count together.
TEST_F(RequestLimitsTest, BoundSchemas) {
  const auto tools = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text += Cat(i == 0 ? "" : ",", R"({"type":"function","function":{"name":"f)", i,
                  R"(","parameters":{"type":"object"}}})");
    }
    return Cat(R"("tool_choice":"none","tools":[)", text, "]");
  };
  serving_.limits.max_schema = 40;
  EXPECT_EQ(Chat(tools(2)), "");
  EXPECT_THAT(Chat(tools(3)), HasSubstr("tools: schemas and grammars of a request: expected at "
                                        "most 40 bytes together, found 51"));
}

TEST_F(RequestLimitsTest, BoundNesting) {
  const auto nested = [](int depth) {
    return Cat(R"({"a":)", std::string(static_cast<std::size_t>(depth - 1), '['),
               std::string(static_cast<std::size_t>(depth - 1), ']'), "}");
  };
  EXPECT_TRUE(ParseBody(nested(32), {}).ok());
  EXPECT_FALSE(ParseBody(nested(33), {}).ok());
  EXPECT_TRUE(ParseBody(nested(128), {.max_depth = 128}).ok());
  EXPECT_FALSE(ParseBody(nested(9), {.max_depth = 8}).ok());
  EXPECT_THAT(std::string(ReadChatRequest(nested(9), {.max_depth = 8}).status().message()),
              HasSubstr("8 levels"));
}

}  // namespace
}  // namespace tandem
