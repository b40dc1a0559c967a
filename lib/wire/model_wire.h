#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"
#include "lib/model/step_limits.h"
#include "lib/sample/sampler.h"
#include "lib/text/vocabulary.h"

namespace tandem::v1 {
class ModelConfig;
class Plan;
class SampledToken;
class SamplingParams;
class StepLimits;
class Vocabulary;
}  // namespace tandem::v1

namespace tandem {

// The project's plain data to and from the messages of proto/tandem/v1. Every FromProto validates:
// INVALID_ARGUMENT names the message's field, what was expected and what was found, and nothing
// unchecked gets past it. Pure; any thread.

v1::ModelConfig ToProto(const ModelConfig& config);
absl::StatusOr<ModelConfig> FromProto(const v1::ModelConfig& message);

// Tens of megabytes for Gemma's 262,144 pieces: clients of Loader.GetModel raise their message size
// limit to kMaxModelMessageBytes.
v1::Vocabulary ToProto(const Vocabulary& vocabulary);
absl::StatusOr<Vocabulary> FromProto(const v1::Vocabulary& message);
inline constexpr int kMaxModelMessageBytes = 64 << 20;

v1::SamplingParams ToProto(const SamplingParams& params);
// Null where there is none.
std::shared_ptr<const Constraint> ConstraintOf(const v1::SamplingParams& message);
absl::StatusOr<SamplingParams> FromProto(const v1::SamplingParams& message,
                                         std::int32_t vocab_size);

v1::SampledToken ToProto(const SampledToken& token);
absl::StatusOr<SampledToken> FromProto(const v1::SampledToken& message, std::int32_t vocab_size);

v1::Plan ToProto(const Plan& plan);
// Valid for `config`. Which workers there are the message cannot tell: every name in it counts as
// known.
absl::StatusOr<Plan> FromProto(const v1::Plan& message, const ModelConfig& config);

v1::StepLimits ToProto(const StepLimits& limits);
absl::StatusOr<StepLimits> FromProto(const v1::StepLimits& message);

}  // namespace tandem
