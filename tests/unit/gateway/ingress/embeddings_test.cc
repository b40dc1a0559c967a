#include "gateway/ingress/answer/embeddings.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

class EmbeddingsTest : public IngressFixture {
 protected:
  void SetUp() override { Start(); }

  // Sends the request and gives each of its prompts, in order, one of the means.
  TestReply Embed(std::string_view path, std::string_view body,
                  const std::vector<std::vector<float>>& means) {
    HttpTestClient client = Connect();
    client.SendRequest("POST", path, body);
    for (const std::vector<float>& mean : means) {
      const std::uint64_t handle = ++submitted_;
      requests_.push_back(engine_.WaitForRequest(handle));
      engine_.Pooled(handle, mean);
      engine_.Finish(handle, FinishReason::kLength);
    }
    return client.Read();
  }

  std::uint64_t submitted_ = 0;
  std::vector<GenerationRequest> requests_;
};

TEST_F(EmbeddingsTest, OpenAisAreOfUnitLengthAndInOrder) {
  const Json json =
      Embed("/v1/embeddings", R"({"model":"m","input":["Hello","<end_of_turn>"],"user":"me"})",
            {{3, 0, 4}, {0, 0, -2}})
          .Json();
  EXPECT_EQ(json["object"], "list");
  EXPECT_EQ(json["model"], "m");
  ASSERT_EQ(json["data"].size(), 2u);
  EXPECT_EQ(json["data"][0],
            Json({{"object", "embedding"}, {"index", 0}, {"embedding", {0.6, 0.0, 0.8}}}));
  EXPECT_EQ(json["data"][1]["index"], 1);
  EXPECT_EQ(json["data"][1]["embedding"], Json({0.0, 0.0, -1.0}));
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_TRUE(requests_[0].pool_prompt);
  EXPECT_EQ(requests_[0].max_tokens, 0);
  EXPECT_EQ(requests_[0].prompt, (std::vector<std::int32_t>{2, Id("Hello")}));
  // A document is text, whatever stands in it.
  EXPECT_EQ(requests_[1].prompt[1], Id("<"));
  const auto tokens =
      static_cast<std::int64_t>(requests_[0].prompt.size() + requests_[1].prompt.size());
  EXPECT_EQ(json["usage"], Json({{"prompt_tokens", tokens}, {"total_tokens", tokens}}));
}

TEST_F(EmbeddingsTest, Base64HoldsTheSameFloats) {
  const Json json =
      Embed("/v1/embeddings", R"({"input":[2,70],"encoding_format":"base64","dimensions":3})",
            {{1, 2, -2}})
          .Json();
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(json["data"][0]["embedding"].get<std::string>(), &bytes));
  std::vector<float> values(3);
  ASSERT_EQ(bytes.size(), 12u);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  EXPECT_EQ(values, (std::vector<float>{1.0f / 3, 2.0f / 3, -2.0f / 3}));
  EXPECT_EQ(requests_[0].prompt, (std::vector<std::int32_t>{2, 70}));
}

TEST_F(EmbeddingsTest, AreAsTheyAreWhereThatIsAskedFor) {
  const Json json =
      Embed("/v1/embeddings", R"({"input":"Hello","embd_normalize":-1})", {{3, 0, 4}}).Json();
  EXPECT_EQ(json["data"][0]["embedding"], Json({3.0, 0.0, 4.0}));
}

// More prompts than run at a time.
TEST_F(EmbeddingsTest, ManyInputsTakeTurns) {
  Json inputs = Json::array();
  std::vector<std::vector<float>> means;
  for (int i = 0; i < 40; ++i) {
    inputs.push_back({2, 10 + i});
    means.push_back({static_cast<float>(i + 1), 0, 0});
  }
  const Json json = Embed("/v1/embeddings", Json({{"input", inputs}}).dump(), means).Json();
  ASSERT_EQ(json["data"].size(), 40u);
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(json["data"][i]["index"], i);
    EXPECT_EQ(requests_[i].prompt[1], 10 + static_cast<std::int32_t>(i));
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], 80);
}

TEST_F(EmbeddingsTest, OpenAisRefusalsNameTheField) {
  const Json long_input(std::vector<int>(513, 70));
  const struct {
    std::string body;
    std::string param;
  } cases[] = {
      {"{}", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":""})", "input"},
      {R"({"input":["a",""]})", "input"},
      {R"({"input":["a",7]})", "input"},
      {R"({"input":[[2],[]]})", "input"},
      {R"({"input":[-1]})", "input"},
      {R"({"input":[99999999]})", "input"},
      {R"({"input":"x","encoding_format":"int8"})", "encoding_format"},
      {R"({"input":"x","dimensions":2})", "dimensions"},
      {R"({"input":"x","dimensions":"3"})", "dimensions"},
      {R"({"input":"x","embd_normalize":1})", "embd_normalize"},
      {R"({"input":"x","stream":true})", "stream"},
      {R"({"input":"x","temperature":1})", "temperature"},
      {Json({{"input", long_input}}).dump(), "input"},
      {Json({{"input", std::vector<std::string>(2049, "x")}}).dump(), "input"},
  };
  for (const auto& [body, param] : cases) {
    const TestReply reply = Ask("POST", "/v1/embeddings", body);
    EXPECT_EQ(reply.status, 400) << body.substr(0, 80);
    EXPECT_EQ(reply.Json()["error"]["param"], param) << reply.body;
  }
  EXPECT_EQ(Ask("POST", "/v1/embeddings", R"({"model":"other","input":"x"})").status, 404);
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(EmbeddingsTest, AFailureOfOneInputIsTheRequests) {
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/embeddings", R"({"input":["Hello","Hell"]})");
  engine_.WaitForRequest(2);
  engine_.Pooled(1, {1, 0, 0});
  engine_.Finish(1, FinishReason::kLength);
  engine_.Finish(2, FinishReason::kError, absl::UnavailableError("the cluster went away"));
  EXPECT_EQ(client.Read().status, 503);
}

TEST_F(EmbeddingsTest, AClientThatLeavesCancels) {
  {
    HttpTestClient client = Connect();
    client.SendRequest("POST", "/v1/embeddings", R"({"input":"Hello"})");
    engine_.WaitForRequest(1);
  }
  engine_.WaitForCancel(1);
}

TEST_F(EmbeddingsTest, SpeaksOllamas) {
  const Json json = Embed("/api/embed", R"({"model":"m:latest","input":["Hello","Hell"],
                                           "truncate":true,"keep_alive":"5m","options":{}})",
                          {{3, 0, 4}, {0, 5, 0}})
                        .Json();
  EXPECT_EQ(json["model"], "m");
  EXPECT_EQ(json["embeddings"], Json({{0.6, 0.0, 0.8}, {0.0, 1.0, 0.0}}));
  EXPECT_EQ(json["prompt_eval_count"], 4);
  EXPECT_GE(json["total_duration"], 0);
  // The older call gives the mean as it is.
  const Json older =
      Embed("/api/embeddings", R"({"model":"m","prompt":"Hello"})", {{3, 0, 4}}).Json();
  EXPECT_EQ(older, Json({{"embedding", {3.0, 0.0, 4.0}}}));
  // Nothing to embed: the model is there.
  EXPECT_EQ(Ask("POST", "/api/embed", R"({"model":"m"})").Json(),
            Json({{"model", "m"}, {"embeddings", Json::array()}}));
  EXPECT_EQ(Ask("POST", "/api/embeddings", R"({"model":"m","prompt":""})").Json(),
            Json({{"embedding", Json::array()}}));
  EXPECT_EQ(Ask("POST", "/api/embed", R"({"model":"other"})").status, 404);
  for (const char* body : {R"({"input":7})", R"({"input":[7]})", R"({"input":["x",""]})",
                           R"({"input":"x","dimensions":4})", R"({"input":"x","what":1})"}) {
    const TestReply reply = Ask("POST", "/api/embed", body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_TRUE(reply.Json()["error"].is_string()) << reply.body;
  }
  EXPECT_EQ(Ask("POST", "/api/embeddings", R"({"prompt":["x"]})").status, 400);
}

TEST_F(EmbeddingsTest, AnEncodersMayBeCut) {
  engine_.SetEncoder(100);
  const Json json =
      Embed("/v1/embeddings", R"({"input":"Hello","dimensions":2})", {{3, 4, 12}}).Json();
  ASSERT_EQ(json["data"][0]["embedding"].size(), 2u);
  EXPECT_NEAR(json["data"][0]["embedding"][0].get<double>(), 0.6, 1e-6);
  EXPECT_NEAR(json["data"][0]["embedding"][1].get<double>(), 0.8, 1e-6);
  EXPECT_EQ(Embed("/v1/embeddings", R"({"input":"Hello","dimensions":1,"embd_normalize":-1})",
                  {{3, 4, 12}})
                .Json()["data"][0]["embedding"],
            Json::array({3.0}));
  const Json ollama =
      Embed("/api/embed", R"({"input":"Hello","dimensions":1})", {{3, 4, 12}}).Json();
  EXPECT_EQ(ollama["embeddings"], Json::array({Json::array({1.0})}));
  for (const char* dimensions : {"0", "4", "-1"}) {
    const TestReply reply =
        Ask("POST", "/v1/embeddings", Cat(R"({"input":"x","dimensions":)", dimensions, "}"));
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(reply.Json()["error"]["param"], "dimensions") << reply.body;
  }
}

TEST_F(EmbeddingsTest, AnEncoderGeneratesNothingAndSaysWhatItIs) {
  engine_.SetEncoder(100);
  const std::string chat = R"({"messages":[{"role":"user","content":"Hello"}])";
  for (const auto& [path, body] :
       {std::pair("/v1/chat/completions", chat + "}"), std::pair("/api/chat", chat + "}"),
        std::pair("/v1/messages", chat + R"(,"max_tokens":4})"),
        std::pair("/v1/completions", std::string(R"({"prompt":"Hello"})")),
        std::pair("/v1/responses", std::string(R"({"input":"Hello"})")),
        std::pair("/api/generate", std::string(R"({"prompt":"Hello"})"))}) {
    const TestReply reply = Ask("POST", path, body);
    EXPECT_EQ(reply.status, 400) << path;
    EXPECT_NE(reply.body.find("'m' is an embedding model"), std::string::npos) << reply.body;
  }
  EXPECT_EQ(engine_.submitted(), 0u);
  EXPECT_EQ(Ask("GET", "/v1/models", "").Json()["data"][0]["capabilities"],
            Json::array({"embedding"}));
  const Json shown = Ask("POST", "/api/show", R"({"model":"m"})").Json();
  EXPECT_EQ(shown["capabilities"], Json::array({"embedding"}));
  EXPECT_EQ(shown["model_info"]["general.architecture"], "gemma-embedding");
  EXPECT_EQ(shown["model_info"]["gemma-embedding.embedding_length"], 3);
}

TEST_F(EmbeddingsTest, ATextBeyondAStepIsRefusedWithBothLimits) {
  engine_.SetEncoder(100);
  for (const int tokens : {101, 513}) {
    const TestReply reply =
        Ask("POST", "/v1/embeddings", Json({{"input", std::vector<int>(tokens, 70)}}).dump());
    EXPECT_EQ(reply.status, 400);
    const Json error = reply.Json()["error"];
    EXPECT_EQ(error["code"], "context_length_exceeded");
    const auto message = error["message"].get<std::string>();
    EXPECT_NE(message.find("context is 512 tokens"), std::string::npos) << message;
    EXPECT_NE(message.find("at most 100 tokens (--max_tokens_per_step)"), std::string::npos)
        << message;
  }
}

TEST(EmbeddingTexts, AreTheSameFloats) {
  EXPECT_EQ(FloatsJson({}), "[]");
  const std::vector<float> values = {0.1f, -0.0f, 1e-30f, std::numeric_limits<float>::max(),
                                     16777216.0f};
  const Json json = Json::parse(FloatsJson(values));
  ASSERT_EQ(json.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(json[i].get<float>(), values[i]);
  std::vector<float> zero = {0, 0};
  ScaleToUnitLength(zero);
  EXPECT_EQ(zero, (std::vector<float>{0, 0}));
  std::vector<float> large = {1e30f, 1e30f};
  ScaleToUnitLength(large);
  EXPECT_NEAR(large[0], std::sqrt(0.5), 1e-6);
}

}  // namespace
}  // namespace tandem
