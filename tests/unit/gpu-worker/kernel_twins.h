#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "lib/weights/format.h"
#include "tests/unit/gpu-worker/kernel_runner.h"

namespace tandem {

// A test of one kernel against an obvious C++ twin. It reports through GoogleTest.
using KernelTwin = void (*)(KernelRunner& runner, const std::string& kernel);

// Twins by kernel name; every kernel of the table has one.
std::map<std::string, KernelTwin> MatrixTwins();     // embed_*, matvec_*, matmat_*, matrix_map_*
std::map<std::string, KernelTwin> RowTwins();        // probe, copy, rms_norm, post_norm, geglu
std::map<std::string, KernelTwin> AttentionTwins();  // qkv_rope_*, attention_*
std::map<std::string, KernelTwin> TileAttentionTwins();  // attention_tile_*, attention_matrix_*
std::map<std::string, KernelTwin> ProductTwins();        // dot_*, matrix_*, tiles_*
std::map<std::string, KernelTwin> StreamTwins();         // stream_*, chain_probe

// Fresh random numbers; a fixed seed for each test.
class TestRandom {
 public:
  explicit TestRandom(std::uint32_t seed) : engine_(seed) {}
  float Uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  std::int32_t Integer(std::int32_t low, std::int32_t high) {  // both included
    return std::uniform_int_distribution<std::int32_t>(low, high)(engine_);
  }
  std::vector<float> Floats(std::size_t count, float low = -1, float high = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = Uniform(low, high);
    return values;
  }

 private:
  std::mt19937 engine_;
};

// Fails where an element differs from the expected one by more than `tolerance` times the largest
// expected magnitude, or is not finite.
void ExpectNear(std::span<const float> found, std::span<const float> expected, double tolerance,
                const std::string& what);

}  // namespace tandem
