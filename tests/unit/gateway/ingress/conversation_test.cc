#include "gateway/ingress/request/conversation.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "gateway/ingress/request/error.h"

namespace tandem {
namespace {

using Turns = std::vector<std::pair<std::string, std::string>>;

Message Say(Role role, std::vector<std::string> parts) {
  Message message;
  message.role = role;
  message.parts = std::move(parts);
  return message;
}

Turns TurnsFor(std::vector<Message> messages) {
  const auto turns = TurnsOf({.messages = std::move(messages)});
  EXPECT_TRUE(turns.ok()) << turns.status();
  Turns pairs;
  if (!turns.ok()) return pairs;
  for (const ChatMessage& turn : *turns) pairs.emplace_back(turn.role, turn.content);
  return pairs;
}

constexpr Role kSystem = Role::kSystem;
constexpr Role kUser = Role::kUser;
constexpr Role kAssistant = Role::kAssistant;

TEST(Conversation, OrdinaryOnesStayAsTheyAre) {
  EXPECT_EQ(TurnsFor({Say(kSystem, {" s "}), Say(kUser, {"u"}), Say(kAssistant, {"a"}),
                      Say(kUser, {"v"})}),
            (Turns{{"system", " s "}, {"user", "u"}, {"assistant", "a"}, {"user", "v"}}));
}

TEST(Conversation, SystemMessagesJoin) {
  EXPECT_EQ(TurnsFor({Say(kSystem, {"a"}), Say(Role::kDeveloper, {"b", "c"}), Say(kUser, {"u"})}),
            (Turns{{"system", "a\n\nb\n\nc"}, {"user", "u"}}));
  // A later one stays where it is, on the user's side.
  EXPECT_EQ(TurnsFor({Say(kUser, {"u"}), Say(kAssistant, {"a"}), Say(kSystem, {"s"})}),
            (Turns{{"user", "u"}, {"assistant", "a"}, {"user", "s"}}));
  EXPECT_EQ(TurnsFor({Say(kUser, {"u"}), Say(kSystem, {"s"}), Say(kUser, {"v"})}),
            (Turns{{"user", "u\n\ns\n\nv"}}));
}

TEST(Conversation, RunsOfOneSideJoin) {
  EXPECT_EQ(TurnsFor({Say(kUser, {" a", "b "}), Say(kUser, {""}), Say(kUser, {" c "}),
                      Say(kAssistant, {"x"}), Say(kAssistant, {"y"}), Say(Role::kTool, {"t"}),
                      Say(kUser, {"u"})}),
            (Turns{{"user", "ab\n\nc"},
                   {"assistant", "x\n\ny"},
                   {"user", "```tool_output\n{\"output\": \"t\"}\n```\n\nu"}}));
}

TEST(Conversation, CallsAndWhatTheyGaveStandWhereTheyWere) {
  Message calls = Say(kAssistant, {"So: "});
  calls.tool_calls = {{.id = "1", .name = "f", .arguments = R"({"a":1})"},
                      {.id = "2", .name = "g", .arguments = "{}"}};
  Message first = Say(Role::kTool, {"[2]"});
  first.tool_call_id = "2";
  Message second = Say(Role::kTool, {"x"});
  second.tool_call_id = "1";
  const auto turns = TurnsOf(
      {.messages = {Say(kSystem, {"s"}), Say(kUser, {"u"}), calls, first, second}}, "TOOLS");
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->size(), 4u);
  EXPECT_EQ((*turns)[0].content, "s\n\nTOOLS");
  EXPECT_EQ((*turns)[2].content,
            R"(So:

[{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {}}])");
  EXPECT_EQ((*turns)[3].content,
            "```tool_output\n{\"name\": \"g\", \"output\": [2]}\n```\n\n"
            "```tool_output\n{\"name\": \"f\", \"output\": \"x\"}\n```");
}

TEST(Conversation, TheUserBegins) {
  EXPECT_EQ(TurnsFor({Say(kAssistant, {"a"}), Say(kUser, {"u"})}),
            (Turns{{"user", ""}, {"assistant", "a"}, {"user", "u"}}));
  EXPECT_EQ(TurnsFor({Say(kSystem, {"s"}), Say(kAssistant, {"a"})}),
            (Turns{{"user", "s"}, {"assistant", "a"}}));
  EXPECT_EQ(TurnsFor({Say(kSystem, {"s"})}), (Turns{{"user", "s"}}));
}

TEST(Conversation, AnAssistantMaySayNothing) {
  EXPECT_EQ(TurnsFor({Say(kUser, {"u"}), Say(kAssistant, {}), Say(kUser, {"v"})}),
            (Turns{{"user", "u"}, {"assistant", ""}, {"user", "v"}}));
}

TEST(Conversation, OnlyAnAssistantsMessageIsContinued) {
  ChatPrompt chat{.messages = {Say(kUser, {"u"}), Say(kAssistant, {"a"})},
                  .add_generation_prompt = false,
                  .continue_final_message = true};
  EXPECT_TRUE(TurnsOf(chat).ok());
  chat.messages.push_back(Say(kUser, {"v"}));
  EXPECT_EQ(ToApiError(TurnsOf(chat).status()).param, "continue_final_message");
}

}  // namespace
}  // namespace tandem
