#pragma once

#include "gateway/dispatch/model_info.h"

namespace tandem::v1 {
class ClusterStatus;
}

namespace tandem {

// How the cluster is doing, as gRPC and /status answer it.
v1::ClusterStatus ToWire(const ClusterStatus& status);

}  // namespace tandem
