#pragma once

#include <string>
#include <vector>

#include "gateway/ingress/request/request.h"

namespace tandem {

// How Gemma 3 is told of tools, calls them and hears what they gave. It has no tokens for that:
// everything is text in the format that Google documents for it
// (ai.google.dev/gemma/docs/capabilities/function-calling), JSON objects of "name" and "parameters".

// What stands before the first user's text: how to call, and the tools. "" without tools. With
// `parallel` a list of calls is offered, too.
std::string ToolInstructions(const std::vector<Tool>& tools, bool parallel);

// Calls as the assistant wrote them: one object, or a list of several.
std::string ToolCallsText(const std::vector<ToolCall>& calls);

// What a tool gave, for the user's side of the conversation. `name` is the tool's; "" where nobody
// knows it. Content that is JSON stands there as it is, other as a string.
std::string ToolOutputText(const std::string& name, const std::string& content);

// How answers begin that are calls, up to the word "name"; with the fences that Gemma writes.
const std::vector<std::string>& CallBeginnings();

}  // namespace tandem
