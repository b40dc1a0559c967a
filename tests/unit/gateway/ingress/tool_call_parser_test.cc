#include "gateway/ingress/answer/tool_call_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace tandem {
namespace {

struct Found {
  std::string text;
  std::vector<ToolCallDelta> calls;
  bool complete = false;
};

// Fed in pieces of random length, or (seed 0) byte by byte.
Found Parse(const std::string& text, unsigned seed) {
  std::mt19937 random(seed);
  ToolCallParser parser("call_");
  Found found;
  const auto take = [&found](ToolCallParser::Output out) {
    found.text += out.text;
    for (ToolCallDelta& delta : out.calls) {
      if (!delta.id.empty()) {
        EXPECT_EQ(delta.index, static_cast<int>(found.calls.size()));
        EXPECT_TRUE(delta.id.starts_with("call_"));
        found.calls.push_back(std::move(delta));
      } else {
        ASSERT_FALSE(found.calls.empty());
        EXPECT_EQ(delta.index, found.calls.back().index);
        EXPECT_EQ(delta.name, "");
        found.calls.back().arguments += delta.arguments;
      }
    }
  };
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t count = seed == 0 ? 1 : 1 + random() % 9;
    take(parser.Feed(text.substr(i, count)));
    i += count;
  }
  take(parser.Finish());
  found.complete = parser.complete();
  EXPECT_EQ(parser.called(), !found.calls.empty() || (found.text.empty() && !text.empty()));
  return found;
}

TEST(ToolCallParser, FindsCallsHoweverTheyArriveAndAreFenced) {
  const std::string first = R"({"name": "f", "parameters": {"a": "} \" {", "b": [{}, 1]}})";
  const std::string second = "{\n  \"name\": \"g-2\",\n  \"parameters\": {}\n}";
  for (unsigned seed = 0; seed < 20; ++seed) {
    for (const std::string& text : {first, "[" + first + "]", "```json\n" + first + "\n```"}) {
      const Found found = Parse(text, seed);
      EXPECT_EQ(found.text, "");
      EXPECT_TRUE(found.complete);
      ASSERT_EQ(found.calls.size(), 1u) << text;
      EXPECT_EQ(found.calls[0].name, "f");
      EXPECT_EQ(found.calls[0].arguments, R"({"a": "} \" {", "b": [{}, 1]})");
    }
    const Found both = Parse("[\n" + first + ",\n" + second + "\n]", seed);
    ASSERT_EQ(both.calls.size(), 2u);
    EXPECT_EQ(both.calls[1].name, "g-2");
    EXPECT_EQ(both.calls[1].arguments, "{}");
    EXPECT_NE(both.calls[0].id, both.calls[1].id);
  }
}

TEST(ToolCallParser, TextStaysText) {
  for (const std::string text :
       {"Hello", "{", "{\"nam", "```json\n[1]", "[\n{\"x\": 1}]", "`", "see {\"name\": \"f\"}"}) {
    for (unsigned seed = 0; seed < 5; ++seed) {
      const Found found = Parse(text, seed);
      EXPECT_EQ(found.text, text);
      EXPECT_TRUE(found.calls.empty());
      EXPECT_FALSE(found.complete);
    }
  }
}

TEST(ToolCallParser, ACutOffCallIsNotComplete) {
  const Found found = Parse(R"({"name": "f", "parameters": {"a": "so)", 0);
  EXPECT_FALSE(found.complete);
  ASSERT_EQ(found.calls.size(), 1u);
  EXPECT_EQ(found.calls[0].arguments, R"({"a": "so)");
}

}  // namespace
}  // namespace tandem
