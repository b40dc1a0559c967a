#include "lib/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace tandem {
namespace {

using testing::HasSubstr;

std::string Nested(std::size_t levels, char open, char close) {
  return std::string(levels, open) + std::string(levels, close);
}

TEST(ParseJsonTest, ReadsWhatIsWithinTheDepth) {
  const auto json = ParseJson(R"({"a":[1,{"b":"]]]][[[[\"[["}]})");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ((*json)["a"][1]["b"], "]]]][[[[\"[[");
  EXPECT_TRUE(ParseJson(Nested(64, '[', ']')).ok());
  EXPECT_TRUE(ParseJson(Nested(3, '[', ']'), 3).ok());
}

TEST(ParseJsonTest, RefusesDeepNestingBeforeItBuildsAnything) {
  for (const std::size_t levels : {65u, 200'000u, 3'000'000u}) {
    const auto json = ParseJson(Nested(levels, '[', ']'));
    EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(json.status().message()), HasSubstr("at most 64 levels"));
  }
  EXPECT_FALSE(ParseJson(std::string(200'000, '[')).ok());
  EXPECT_FALSE(ParseJson(Nested(4, '[', ']'), 3).ok());
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(ParseJson(objects).ok());
}

TEST(ParseJsonTest, SaysWhereTextIsNoJson) {
  const auto json = ParseJson(R"({"a": nonsense})");
  EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(json.status().message()), HasSubstr("15 bytes that break it at byte 8"));
  EXPECT_FALSE(ParseJson("").ok());
  EXPECT_FALSE(ParseJson("{\"a\":\"\xff\"}").ok());
}

}  // namespace
}  // namespace tandem
