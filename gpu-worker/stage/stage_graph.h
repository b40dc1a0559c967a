#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/op.h"
#include "gpu-worker/stage/stage_memory.h"
#include "lib/device/device.h"

namespace tandem {

// A stage as a list of kernels: `body` runs over the step's tokens, `head` (final norm and logits)
// over its logit rows.
struct StageGraph {
  StageMemory memory;
  std::vector<Op> body;
  std::vector<Op> head;
};

// The bindings are validated already (ValidateCompile). UNIMPLEMENTED names what Vulkan stages
// cannot do; INVALID_ARGUMENT a binding that another device made.
absl::StatusOr<StageGraph> BuildStageGraph(const DeviceContext& context, const ModelConfig& config,
                                           const StageSpec& spec, const StageBindings& bindings,
                                           const CompileOptions& options);

}  // namespace tandem
