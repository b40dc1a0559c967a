#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// OpenAI's Responses API: /v1/responses, and what was answered there for as long as memory is kept
// for it (response_store.h). docs/responses-api.md describes it.
std::unique_ptr<Door> MakeResponsesDoor(const DoorServices& services);

}  // namespace tandem
