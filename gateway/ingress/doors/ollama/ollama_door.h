#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// Ollama's API: /api/chat, /api/generate, /api/tags, /api/show, /api/ps, /api/version.
// docs/ollama-api.md describes it.
std::unique_ptr<Door> MakeOllamaDoor(const DoorServices& services);

}  // namespace tandem
