#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/stage/recorder.h"
#include "lib/device/program.h"

namespace tandem {

// A stage as a list of kernels: `body` runs over the step's tokens, a head (final norm and logits)
// over its logit rows. The heads differ in the logits they write, the body serves every context.
struct StageGraph {
  std::vector<Op> body;
  // The same for steps in which every sequence has one token; empty where there is nothing to gain.
  std::vector<Op> decode;
  // The same for steps of one token; empty where products do not suit it (stream.h).
  std::vector<Op> single;
  // The same, chained (chain.h); empty where that is not done, or `single` is.
  std::vector<Op> chained;
  // As `decode`, chained, for buckets from 2 to `few_tokens`; empty where that is not done.
  std::vector<Op> few;
  std::uint32_t few_tokens = 0;
  // Of each context; empty where the stage is not the head.
  std::vector<std::vector<Op>> heads;
  // The same: final hidden states of all tokens, for steps that ask for them.
  std::vector<std::vector<Op>> hidden_states;
};

// The largest bucket of steps in which every sequence has one token.
std::uint32_t DecodeBucket(const StepLimits& limits);

// The program is validated already (ValidateCompile); `memory` is its own and outlives the ops.
// UNIMPLEMENTED names what Vulkan stages cannot do; INVALID_ARGUMENT a binding that another device
// made.
absl::StatusOr<StageGraph> BuildStageGraph(const DeviceContext& context, const ModelConfig& config,
                                           const ProgramSpec& program, const ProgramStage& stage,
                                           const ProgramMemory& memory);

}  // namespace tandem
