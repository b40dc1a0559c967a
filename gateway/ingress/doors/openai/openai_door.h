#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models.
std::unique_ptr<Door> MakeOpenAiDoor(const DoorServices& services);

}  // namespace tandem
