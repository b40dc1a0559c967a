#pragma once

#include "absl/status/statusor.h"
#include "gateway/ingress/generation.h"
#include "gateway/ingress/serving.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// Checks a Generate request and plans its answer. InvalidArgument names the field.
absl::StatusOr<GenerationSpec> PlanGenerate(const Serving& serving,
                                            const v1::GenerateRequest& request);

}  // namespace tandem
