#include "gateway/ingress/request/conversation.h"

#include <functional>
#include <map>
#include <string_view>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/tool_text.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::string_view kEmptyLine = "\n\n";

bool IsSystem(Role role) { return role == Role::kSystem || role == Role::kDeveloper; }

void Join(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text.append(kEmptyLine);
  text.append(more);
}

// The names of the calls so far, by their ids.
using CallNames = std::map<std::string, std::string, std::less<>>;

std::string TextOf(const Message& message, const CallNames& names) {
  std::string text;
  for (const std::string& part : message.parts) {
    if (IsSystem(message.role)) {
      Join(text, part);
    } else {
      text.append(TrimWhitespace(part));
    }
  }
  if (!message.tool_calls.empty()) Join(text, ToolCallsText(message.tool_calls));
  if (message.role != Role::kTool) return text;
  const auto named = names.find(message.tool_call_id);
  const bool unknown = !message.tool_name.empty() || named == names.end();
  return ToolOutputText(unknown ? message.tool_name : named->second, text);
}

}  // namespace

absl::StatusOr<std::vector<ChatMessage>> TurnsOf(const ChatPrompt& chat, std::string_view tools) {
  if (chat.continue_final_message &&
      (chat.messages.empty() || chat.messages.back().role != Role::kAssistant)) {
    return InvalidField("continue_final_message",
                        "'continue_final_message': expected an assistant's message as the last");
  }
  std::string system;
  CallNames names;
  auto next = chat.messages.begin();
  for (; next != chat.messages.end() && IsSystem(next->role); ++next)
    Join(system, TextOf(*next, names));
  Join(system, tools);
  std::vector<ChatMessage> turns;
  for (; next != chat.messages.end(); ++next) {
    const Message& message = *next;
    std::string text = TextOf(message, names);
    for (const ToolCall& call : message.tool_calls) {
      if (!call.id.empty()) names[call.id] = call.name;
    }
    const std::string_view side = message.role == Role::kAssistant ? "assistant" : "user";
    if (turns.empty() && side == "assistant") {
      turns.push_back({.role = "user", .content = std::exchange(system, {})});
    }
    if (turns.empty() || turns.back().role != side) {
      turns.push_back({.role = std::string(side), .content = std::move(text)});
    } else {
      Join(turns.back().content, TrimWhitespace(text));
    }
  }
  if (turns.empty()) {
    turns.push_back({.role = "user", .content = std::exchange(system, {})});
  }
  if (!system.empty()) {
    turns.insert(turns.begin(), {.role = "system", .content = std::move(system)});
  }
  return turns;
}

}  // namespace tandem
