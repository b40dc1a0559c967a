#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

class TokenizerDoorTest : public IngressFixture {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(TokenizerDoorTest, SpeaksVllms) {
  const Json json =
      Ask("POST", "/tokenize", R"({"model":"m","prompt":"Hello","return_token_strs":true})").Json();
  EXPECT_EQ(json["tokens"], Json({2, Id("Hello")}));
  EXPECT_EQ(json["count"], 2);
  EXPECT_EQ(json["max_model_len"], 512);
  EXPECT_EQ(json["token_strs"], Json({"<bos>", "Hello"}));
  EXPECT_EQ(
      Ask("POST", "/tokenize", R"({"prompt":"Hello","add_special_tokens":false})").Json()["tokens"],
      Json({Id("Hello")}));
  const Json chat =
      Ask("POST", "/tokenize", R"({"messages":[{"role":"user","content":"Hello"}]})").Json();
  EXPECT_EQ(chat["tokens"][1], Id("<start_of_turn>"));
  const Json back =
      Ask("POST", "/detokenize", R"({"model":"m","tokens":)" + Json({2, Id("Hello")}).dump() + "}")
          .Json();
  EXPECT_EQ(back["prompt"], "Hello");
}

TEST_F(TokenizerDoorTest, SpeaksLlamaCpps) {
  EXPECT_EQ(Ask("POST", "/tokenize", R"({"content":"Hello"})").Json()["tokens"],
            Json({Id("Hello")}));
  EXPECT_EQ(Ask("POST", "/tokenize", R"({"content":"Hello","add_special":true})").Json()["count"],
            2);
  EXPECT_EQ(Ask("POST", "/detokenize", R"({"tokens":[]})").Json()["content"], "");
}

TEST_F(TokenizerDoorTest, RefusesWhatItCannotTake) {
  for (const char* body : {"{}", R"({"prompt":1})", R"({"messages":[]})", R"({"prompt":"x","y":1})",
                           R"({"model":"other","prompt":"x"})"}) {
    const int status = Ask("POST", "/tokenize", body).status;
    EXPECT_TRUE(status == 400 || status == 404) << body;
  }
  for (const char* body : {"{}", R"({"tokens":"x"})", R"({"tokens":[1.5]})", R"({"tokens":[-1]})",
                           R"({"tokens":[999999]})"}) {
    EXPECT_EQ(Ask("POST", "/detokenize", body).status, 400) << body;
  }
  const std::string large = R"({"prompt":")" + std::string((1 << 20) + 1, 'a') + "\"}";
  EXPECT_EQ(Ask("POST", "/tokenize", large).status, 400);
}

}  // namespace
}  // namespace tandem
