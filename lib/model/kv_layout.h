#pragma once

#include <cstdint>

#include "lib/model/kinds.h"
#include "lib/model/step_limits.h"

namespace tandem {

// How the keys (or the values) of a block lie in memory: [kv head][kKvBlockTokens][head_dim]. With
// KvType::kInt8 each head's rows are followed by their scales, a float32 a row; a value is its
// integer times the scale of its row, the largest magnitude of the row being 127.

constexpr std::int64_t KvElementBytes(KvType type) {
  switch (type) {
    case KvType::kFloat32:
      return 4;
    case KvType::kFloat16:
      return 2;
    case KvType::kInt8:
      return 1;
  }
  return 0;
}

// Of a head of a block, in bytes.
constexpr std::int64_t KvHeadBytes(std::int64_t head_dim, KvType type) {
  const std::int64_t scales = type == KvType::kInt8 ? std::int64_t{sizeof(float)} : 0;
  return kKvBlockTokens * (head_dim * KvElementBytes(type) + scales);
}

constexpr std::uint64_t KvBlockBytes(std::int64_t kv_heads, std::int64_t head_dim, KvType type) {
  return static_cast<std::uint64_t>(kv_heads * KvHeadBytes(head_dim, type));
}

}  // namespace tandem
