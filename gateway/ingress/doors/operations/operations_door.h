#pragma once

#include <memory>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// For whoever runs the server: /healthz (the process lives), /readyz and /health (the cluster
// serves; the latter as other servers spell it, in JSON).
std::unique_ptr<Door> MakeOperationsDoor(const DoorServices& services);

}  // namespace tandem
