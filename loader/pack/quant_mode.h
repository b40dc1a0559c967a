#pragma once

#include "lib/model/kinds.h"
#include "lib/model/tensors.h"
#include "lib/weights/format.h"
#include "loader/read/source_type.h"

namespace tandem {

// The format in memory of a tensor; vectors are float32 always.
WeightFormat FormatFor(QuantMode mode, TensorKind kind, SourceType source);

}  // namespace tandem
