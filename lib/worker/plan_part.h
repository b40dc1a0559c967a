#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/trace.h"
#include "lib/constrain/token_masks.h"
#include "lib/device/device.h"
#include "lib/model/plan.h"
#include "lib/worker/edge_connect.h"
#include "lib/worker/slot_table.h"
#include "lib/worker/stage_layout.h"
#include "lib/worker/step_runner.h"
#include "lib/worker/weights_store.h"

namespace google::protobuf {
template <typename Element>
class RepeatedPtrField;
}

namespace tandem::v1 {
class ConnectRequest;
class EdgeSpec;
class PrepareRequest;
class RegionManifest;
}  // namespace tandem::v1

namespace tandem {

// One worker's part in one generation of a plan, from Prepare over Connect to its end. One thread
// at a time.
struct PlanPart {
  std::uint64_t number = 0;
  // This worker's name in the plan.
  std::string worker;
  Plan plan;
  SlotBounds bounds;
  ActivationType activations = ActivationType::kFloat32;
  KvCacheSpec kv_spec;
  StageLayout layout;
  // At the head, where the gateway gave the vocabulary.
  std::shared_ptr<MaskCache> masks;
  // Null where no attention runs here.
  std::unique_ptr<KvCache> kv_cache;
  std::vector<std::unique_ptr<Edge>> edges;
  std::unique_ptr<EdgeWatcher> watcher;
  bool connected = false;

  // Checks every field of the request; nothing is allocated yet.
  static absl::StatusOr<std::unique_ptr<PlanPart>> Parse(const v1::PrepareRequest& request);
  // Maps and imports the regions, and allocates the KV cache beside that.
  absl::Status Allocate(const v1::PrepareRequest& request, Device& device, WeightsStore& weights);
  // The ends of edges that are this worker's. INVALID_ARGUMENT unless they are exactly those that
  // the plan needs.
  absl::StatusOr<std::vector<EdgeEndSpec>> ParseEdges(const v1::ConnectRequest& request) const;
  // Compiles the stages onto the connected edges.
  absl::StatusOr<std::unique_ptr<StepRunner>> Compile(Device& device, const WeightsStore& weights,
                                                      TraceRecorder* trace);
  // Closes the edges; the runner must be gone.
  void Close();
};

// What an end of an edge must fit.
struct EdgeBounds {
  // As the edge calls this worker.
  std::string worker;
  std::uint64_t generation = 0;
  std::int32_t least_slots = 1;
  StepLimits limits;
  // Of its widest row.
  std::int32_t columns = 0;
};
// INVALID_ARGUMENT names what is wrong. Whether this worker is at an end of it is not looked at.
absl::StatusOr<EdgeEndSpec> ParseEdgeEnd(const v1::EdgeSpec& message, const EdgeBounds& bounds);

// Maps and imports exactly the regions `names`, from the loader's socket; what else the store holds
// is dropped.
absl::Status LoadWeights(const google::protobuf::RepeatedPtrField<v1::RegionManifest>& regions,
                         const std::string& region_socket, const std::string& fingerprint,
                         const ModelConfig& config, const std::vector<std::string>& names,
                         Device& device, WeightsStore& weights);

}  // namespace tandem
