// What either API lets a caller ask: the same numbers, sent both ways, are taken or refused alike.
#include "gateway/ingress/request/sampling_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/grpc/generate_call.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/strings.h"
#include "tests/unit/gateway/ingress/fake_engine.h"

namespace tandem {
namespace {

struct Case {
  const char* members;  // of the JSON request
  const char* param;    // "": it is taken
  void (*set)(v1::GenerateRequest& request);
};

const Case kCases[] = {
    {R"("temperature":0)", "", [](auto& r) { r.set_temperature(0); }},
    {R"("temperature":2)", "", [](auto& r) { r.set_temperature(2); }},
    {R"("temperature":9)", "temperature", [](auto& r) { r.set_temperature(9); }},
    {R"("temperature":-1)", "temperature", [](auto& r) { r.set_temperature(-1); }},
    {R"("top_p":1)", "", [](auto& r) { r.set_top_p(1); }},
    {R"("top_p":0)", "top_p", [](auto& r) { r.set_top_p(0); }},
    {R"("top_p":1.5)", "top_p", [](auto& r) { r.set_top_p(1.5f); }},
    {R"("top_k":-1)", "", [](auto& r) { r.set_top_k(-1); }},
    {R"("top_k":0)", "", [](auto& r) { r.set_top_k(0); }},
    {R"("top_k":-2)", "top_k", [](auto& r) { r.set_top_k(-2); }},
    {R"("min_p":0.5)", "", [](auto& r) { r.set_min_p(0.5f); }},
    {R"("min_p":1)", "min_p", [](auto& r) { r.set_min_p(1); }},
    {R"("frequency_penalty":-2)", "", [](auto& r) { r.set_frequency_penalty(-2); }},
    {R"("frequency_penalty":3)", "frequency_penalty", [](auto& r) { r.set_frequency_penalty(3); }},
    {R"("presence_penalty":3)", "presence_penalty", [](auto& r) { r.set_presence_penalty(3); }},
    {R"("logit_bias":{"5":100})", "", [](auto& r) { (*r.mutable_logit_bias())[5] = 100; }},
    {R"("logit_bias":{"5":101})", "logit_bias",
     [](auto& r) { (*r.mutable_logit_bias())[5] = 101; }},
    {R"("logit_bias":{"-5":1})", "logit_bias", [](auto& r) { (*r.mutable_logit_bias())[-5] = 1; }},
    {R"("logit_bias":{"999999":1})", "logit_bias",
     [](auto& r) { (*r.mutable_logit_bias())[999999] = 1; }},
    {R"("logprobs":20)", "", [](auto& r) { r.set_logprobs(20); }},
    {R"("logprobs":21)", "logprobs", [](auto& r) { r.set_logprobs(21); }},
    {R"("logprobs":-1)", "logprobs", [](auto& r) { r.set_logprobs(-1); }},
    {R"("max_tokens":-1)", "", [](auto& r) { r.set_max_tokens(-1); }},
    {R"("max_tokens":-2)", "max_tokens", [](auto& r) { r.set_max_tokens(-2); }},
    {R"("stop":["a","b","c","d"])", "",
     [](auto& r) {
       for (const char* s : {"a", "b", "c", "d"}) r.add_stop(s);
     }},
    {R"("stop":["a","b","c","d","e"])", "stop",
     [](auto& r) {
       for (const char* s : {"a", "b", "c", "d", "e"}) r.add_stop(s);
     }},
    {R"("stop":[""])", "stop", [](auto& r) { r.add_stop(""); }},
};

class SamplingRules : public ::testing::Test {
 protected:
  SamplingRules() {
    serving_.model.id.assign(1, 'm');
    serving_.model.tokenizer = TestTokenizer();
    serving_.engine = &engine_;
  }

  absl::Status OverHttp(const std::string& members) {
    auto request = ReadCompletionRequest(Cat(R"({"model":"m","prompt":"Hello",)", members, "}"));
    if (!request.ok()) return request.status();
    return PlanAnswers(serving_, *request).status();
  }
  absl::Status OverGrpc(const v1::GenerateRequest& request) {
    return PlanGenerate(serving_, request).status();
  }
  static v1::GenerateRequest Request() {
    v1::GenerateRequest request;
    request.set_text(std::string("Hello"));
    return request;
  }

  FakeEngine engine_;
  Serving serving_;
};

TEST_F(SamplingRules, AreTheSameOverHttpAndGrpc) {
  for (const Case& entry : kCases) {
    v1::GenerateRequest request = Request();
    entry.set(request);
    for (const absl::Status& status : {OverHttp(entry.members), OverGrpc(request)}) {
      const std::string param = status.ok() ? std::string() : ToApiError(status).param;
      EXPECT_EQ(param, entry.param) << entry.members << ": " << status;
      if (*entry.param != '\0') {
        EXPECT_TRUE(absl::IsInvalidArgument(status)) << entry.members << ": " << status;
      }
    }
  }
}

TEST_F(SamplingRules, BoundLogitBiasOverHttpAndGrpc) {
  std::string json = R"("logit_bias":{)";
  v1::GenerateRequest request = Request();
  for (std::int32_t token = 0; token < 1024; ++token) {
    // The test vocabulary is small: ids beyond it are refused for that, once there are few enough.
    json.append(token == 0 ? "" : ",").append(Cat("\"", token, "\":1"));
    (*request.mutable_logit_bias())[token] = 1;
  }
  for (const absl::Status& status : {OverHttp(Cat(json, "}")), OverGrpc(request)}) {
    EXPECT_NE(status.message().find("token ids from 0 to"), absl::string_view::npos) << status;
  }
  json.append(",\"1024\":1}");
  (*request.mutable_logit_bias())[1024] = 1;
  for (const absl::Status& status : {OverHttp(json), OverGrpc(request)}) {
    EXPECT_NE(status.message().find("at most 1024 tokens, found 1025"), absl::string_view::npos)
        << status;
  }
}

TEST_F(SamplingRules, NoNumbersAreInNoRange) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  v1::GenerateRequest request = Request();
  request.set_temperature(kNone);
  EXPECT_EQ(ToApiError(OverGrpc(request)).param, "temperature");
  request = Request();
  (*request.mutable_logit_bias())[5] = kNone;
  EXPECT_EQ(ToApiError(OverGrpc(request)).param, "logit_bias");
}

TEST(CheckedSampling, TheLastBiasOfATokenCounts) {
  SamplingWishes wishes;
  wishes.logit_bias = {{7, 1}, {3, 2}, {7, 3}, {3, 4}, {7, 5}};
  const auto sampling = CheckedSampling(wishes);
  ASSERT_TRUE(sampling.ok());
  EXPECT_EQ(sampling->logit_bias,
            (std::vector<std::pair<std::int32_t, float>>{{3, 4.0f}, {7, 5.0f}}));
}

}  // namespace
}  // namespace tandem
