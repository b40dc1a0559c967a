#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gpu-worker/kernels/common/step_params.h"
#include "lib/model/kinds.h"
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

// How kernels' names call the types of keys and values.
struct CacheType {
  KvType type;
  const char* name;
};
inline constexpr CacheType kCacheTypes[] = {
    {KvType::kFloat32, "f32"}, {KvType::kFloat16, "f16"}, {KvType::kInt8, "i8"}};

// A cache plane, [block][kv head][kBlock][head_dim], as a cache of a type holds it, and back. With
// int8 a row in which a value is not a number gets a scale that is none.
Bytes PackCache(const Heads& shape, const std::vector<float>& values, KvType type);
std::vector<float> UnpackCache(const Heads& shape, const Bytes& bytes, KvType type);
// A row of keys or values as it comes back from a cache.
void RoundRow(KvType type, std::span<float> row);
// Of kernels whose name is `base` and then that of the type.
KvType CacheTypeOf(const std::string& kernel, const std::string& base);
// First element of a position's head in a plane.
std::size_t CacheRow(const Heads& shape, const TestStep& step, std::size_t sequence,
                     std::size_t position, std::size_t kv_head);
// What one head of the step's token t gets; window 0: a global layer.
std::vector<float> Attend(const Heads& shape, const TestStep& step, std::size_t t, std::size_t head,
                          const std::vector<float>& qkv, const std::vector<float>& keys,
                          const std::vector<float>& values, std::size_t window);

}  // namespace tandem
