#pragma once

#include "gateway/dispatch/model_info.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// The same, as GetStatus answers it; the version is this program's.
v1::ClusterStatus ToWire(const ClusterStatus& status);

}  // namespace tandem
