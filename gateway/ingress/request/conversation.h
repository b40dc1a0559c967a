#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"
#include "lib/text/chat_template.h"

namespace tandem {

// The turns that Gemma's template can say of messages in any order. docs/openai-api.md describes
// the rules:
//   - system and developer messages before the first other one, joined by an empty line, are the
//     system text; later ones are part of the user's side, where they stand;
//   - messages of one side that follow one another are one turn, joined by an empty line; those
//     without text add nothing to it;
//   - a conversation that the assistant opens, or that has a system text only, begins with a user's
//     turn that has the system text, or nothing;
//   - the parts of a message are joined: a system message's by an empty line, others' as the
//     template does it (each trimmed, nothing between).
// A tool's message is the user's side. Calls and what tools gave are spelled as tool_text.h has it;
// `tools` (ToolInstructions, or "") stands behind the system text. InvalidArgument (error.h) where
// continue_final_message finds another last message than an assistant's.
absl::StatusOr<std::vector<ChatMessage>> TurnsOf(const ChatPrompt& chat,
                                                 std::string_view tools = "");

}  // namespace tandem
