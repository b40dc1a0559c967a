#pragma once

#include "gateway/dispatch/auto_plan.h"
#include "gateway/dispatch/model_info.h"

namespace tandem::v1 {
class ClusterStatus;
class PlanReport;
}  // namespace tandem::v1

namespace tandem {

// How the cluster is doing, as gRPC and /status answer it.
v1::ClusterStatus ToWire(const ClusterStatus& status);
// All but `plan`.
v1::PlanReport ToWire(const PlanReport& report);

}  // namespace tandem
