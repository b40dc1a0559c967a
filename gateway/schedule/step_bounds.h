#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/step_limits.h"
#include "lib/sample/sampler.h"
#include "lib/step/step_plan.h"

namespace tandem {

// What a step may be: how large its message, and where its micro-batches end. Pure functions.

// The step's message must stay far below what the gateway and the workers take (64 MiB).
inline constexpr std::int64_t kDefaultStepBytes = std::int64_t{16} << 20;

// At least the bytes that a SequenceStart of these parameters takes in a StepPlan message
// (proto/tandem/v1/worker.proto), with `generated` tokens of a replay.
std::int64_t StartBytesBound(const SamplingParams& sampling, std::int64_t generated);
// At least the bytes of everything else in a StepPlan message within these limits.
std::int64_t SharesBytesBound(const StepLimits& limits);

// Where the micro-batches of a step of `tokens` tokens end (StepPlan::micro_batch_ends): as many as
// `most` allows with at least `least_tokens` tokens in each, of equal size. Empty for one: a device
// reads all weights once for every micro-batch, so a step of few tokens is not cut.
void CutMicroBatches(std::int32_t tokens, std::int32_t most, std::int32_t least_tokens,
                     std::vector<std::int32_t>* ends);
// Moves each end to the end of the share that it falls into; what is then left of them.
void MoveToShareEnds(const std::vector<SequenceShare>& shares, std::vector<std::int32_t>* ends);

}  // namespace tandem
