#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/tensors.h"
#include "lib/weights/format.h"
#include "lib/weights/region.h"

namespace tandem {

// A region of random weights, made as fast as memory is written: half a million small values again
// and again, norms of 1. For measuring, where values do not change the time.
absl::StatusOr<std::shared_ptr<const Region>> MakeRandomRegion(const ModelConfig& config,
                                                               WeightPart part, std::int32_t layer,
                                                               WeightFormat matrix_format);

}  // namespace tandem
