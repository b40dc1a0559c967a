#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// Anthropic's API: /v1/messages, /v1/messages/count_tokens. docs/anthropic-api.md describes it.
std::unique_ptr<Door> MakeAnthropicDoor(const DoorServices& services);

// An error as that API writes it: {"type": "error", "error": {"type", "message"}}.
std::string AnthropicErrorJson(const ApiError& error);

}  // namespace tandem
