#include "gateway/ingress/request/conversation.h"

#include <string_view>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::string_view kEmptyLine = "\n\n";

bool IsSystem(Role role) { return role == Role::kSystem || role == Role::kDeveloper; }

std::string TextOf(const Message& message) {
  std::string text;
  for (const std::string& part : message.parts) {
    if (!IsSystem(message.role)) {
      text.append(TrimWhitespace(part));
      continue;
    }
    if (!text.empty() && !part.empty()) text.append(kEmptyLine);
    text.append(part);
  }
  return text;
}

void Join(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text.append(kEmptyLine);
  text.append(more);
}

}  // namespace

absl::StatusOr<std::vector<ChatMessage>> TurnsOf(const ChatPrompt& chat) {
  if (chat.continue_final_message &&
      (chat.messages.empty() || chat.messages.back().role != Role::kAssistant)) {
    return InvalidField("continue_final_message",
                        "'continue_final_message': expected an assistant's message as the last");
  }
  std::string system;
  std::vector<ChatMessage> turns;
  for (const Message& message : chat.messages) {
    std::string text = TextOf(message);
    if (IsSystem(message.role) && turns.empty()) {
      Join(system, text);
      continue;
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
