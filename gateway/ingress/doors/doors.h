#pragma once

#include <memory>
#include <vector>

#include "gateway/ingress/doors/door.h"

namespace tandem {

// Every door of the HTTP port: a new one is a folder beside this file and a line in doors.cc.
std::vector<std::unique_ptr<Door>> MakeDoors(const DoorServices& services);

}  // namespace tandem
