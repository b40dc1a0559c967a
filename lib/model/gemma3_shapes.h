#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "lib/model/config.h"

namespace tandem {

// The shape of a published Gemma 3 text model: 1b, 4b, 12b or 27b, as its config.json has it. For
// benchmarks and tuning without a model's files. INVALID_ARGUMENT names another.
absl::StatusOr<ModelConfig> Gemma3Shape(std::string_view name);

}  // namespace tandem
