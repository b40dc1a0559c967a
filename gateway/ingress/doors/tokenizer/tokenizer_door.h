#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// /tokenize and /detokenize, as vLLM and llama.cpp have them. docs/openai-api.md describes it.
std::unique_ptr<Door> MakeTokenizerDoor(const DoorServices& services);

}  // namespace tandem
