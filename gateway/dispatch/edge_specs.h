#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/memory/memory_declaration.h"
#include "lib/model/plan.h"

namespace tandem::v1 {
class EdgeSpec;
}

namespace tandem {

// What the gateway knows of a worker when it joins the edges.
struct EdgeWorker {
  std::string name;
  std::string address;  // gRPC
  std::string fd_socket;
  std::string host;  // WorkerDescription.host
  MemoryDeclaration memory;
};

// Whether two workers can hand descriptors to each other: the same kernel runs them, and they see
// the same files, or at least the same folder with sockets (as containers with a common volume do).
bool MayShareMemory(const EdgeWorker& a, const EdgeWorker& b);

// The rings of all edges: `slots` slots of (max_tokens, EdgeColumns of the model) float32, in whole
// pages.
struct EdgeRing {
  std::int32_t slots = 1;
  std::int32_t max_tokens = 0;
  const ModelConfig& config;
};

// One spec for each edge of the plan, id "from>to", its owner and kinds as AgreeOnEdge says; an end
// without a descriptor socket takes part in `inline` edges only. `allowed` holds kinds, best
// first. FAILED_PRECONDITION names an edge for which none is left.
absl::StatusOr<std::vector<v1::EdgeSpec>> MakeEdgeSpecs(const Plan& plan,
                                                        const std::vector<EdgeWorker>& workers,
                                                        const std::vector<HandleKind>& allowed,
                                                        const EdgeRing& ring);

}  // namespace tandem
