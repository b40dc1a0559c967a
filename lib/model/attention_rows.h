#pragma once

#include <cstdint>

#include "lib/model/config.h"

namespace tandem {

// Values of a row where attention is cut out of its layer: a token's queries, keys and values, one
// behind the other; and what attention makes of them.
inline std::int32_t ProjectedColumns(const ModelConfig& config) {
  return (config.num_heads + 2 * config.num_kv_heads) * config.head_dim;
}
inline std::int32_t AttendedColumns(const ModelConfig& config) {
  return config.num_heads * config.head_dim;
}

}  // namespace tandem
