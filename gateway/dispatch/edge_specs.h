#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/plan.h"

namespace tandem::v1 {
class EdgeSpec;
}

namespace tandem {

// What the gateway knows of a worker when it joins the edges.
struct EdgeWorker {
  std::string name;
  WorkerRole role = WorkerRole::kGpu;  // npu workers own the memory of their edges
  std::string address;                 // gRPC
  std::string fd_socket;
  std::string host;               // WorkerDescription.host: memory is shared within one only
  std::vector<HandleKind> kinds;  // WorkerDescription.edge_kinds
};

// One spec for each edge of the plan, id "from>to". Kinds: those of `allowed`, in its order, that
// both ends can use; between two hosts only `inline`, which every worker can use.
// FAILED_PRECONDITION names an edge for which none is left.
absl::StatusOr<std::vector<v1::EdgeSpec>> MakeEdgeSpecs(const Plan& plan,
                                                        const std::vector<EdgeWorker>& workers,
                                                        const std::vector<HandleKind>& allowed,
                                                        std::int32_t slots);

}  // namespace tandem
