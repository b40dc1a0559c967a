#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu-worker/kernels/common/step_params.h"
#include "tests/unit/gpu-worker/kernel_twins.h"

namespace tandem {

// What the twins of attention kernels share.

struct Heads {
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;
  std::vector<std::uint32_t> Constants() const {
    return {static_cast<std::uint32_t>(heads), static_cast<std::uint32_t>(kv_heads),
            static_cast<std::uint32_t>(head_dim)};
  }
};

inline constexpr std::size_t kBlock = kernels::kBlockTokens;

// A cache plane in float32 or float16, and back.
Bytes PackCache(const std::vector<float>& values, bool half);
std::vector<float> UnpackCache(const Bytes& bytes, bool half);
// First element of a position's head in a cache plane.
std::size_t CacheRow(const Heads& shape, const TestStep& step, std::size_t sequence,
                     std::size_t position, std::size_t kv_head);
// What one head of the step's token t gets; window 0: a global layer.
std::vector<float> Attend(const Heads& shape, const TestStep& step, std::size_t t, std::size_t head,
                          const std::vector<float>& qkv, const std::vector<float>& keys,
                          const std::vector<float>& values, std::size_t window);

}  // namespace tandem
