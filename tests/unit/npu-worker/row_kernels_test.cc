// The kernels of attention over blocks as the cache has them, compiled for the host, against the
// CPU device's and against slow twins in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/kernels/host_kernels.h"
#include "tests/unit/npu-worker/cpu_twins.h"

namespace tandem::npu {
namespace {

// Rows aligned to 32 bytes, as a core's memory has them.
class AlignedRow {
 public:
  explicit AlignedRow(std::size_t n)
      : data_(static_cast<float*>(std::aligned_alloc(64, (n * 4 + 63) / 64 * 64)), std::free),
        n_(n) {
    std::fill_n(data(), n, 0.0f);
  }
  AlignedRow(std::size_t n, std::uint32_t seed, float width) : AlignedRow(n) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, width);
    for (std::size_t i = 0; i < n; ++i) data()[i] = normal(random);
  }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::vector<float> values() const { return {data(), data() + n_}; }

 private:
  std::unique_ptr<float, void (*)(void*)> data_;
  std::size_t n_;
};

// A head of attention, block by block, against the CPU device's over the same blocks.
TEST(NpuRowKernelsTest, Attention) {
  constexpr int kKeys = 16;
  for (const int dim : {16, 128, 256}) {
    // The last key's number: whole blocks, one key, one behind a whole block.
    for (const int last : {0, 9, 15, 16, 47, 100}) {
      const int blocks = last / kKeys + 1;
      const AlignedRow query(dim, 7, 0.3f), keys(blocks * kKeys * dim, 8, 1),
          values(blocks * kKeys * dim, 9, 1);
      AlignedRow out(dim);
      float state[2] = {-1e30f, 0};
      for (int b = 0; b < blocks; ++b) {
        HostRows().attend_block(query.data(), keys.data() + b * kKeys * dim,
                                values.data() + b * kKeys * dim,
                                std::min(kKeys, last + 1 - b * kKeys), dim, state, out.data());
      }
      for (int i = 0; i < dim; ++i) out.data()[i] /= state[1];
      const std::vector<float> cpu =
          AttendOnCpu(query.data(), keys.data(), values.data(), dim, last);
      ExpectClose(out.values(), Doubles(cpu), 2e-6);
    }
  }
}

// A head of a block of keys or values as the cache has them in int8, aligned to 32 bytes.
class Int8Block {
 public:
  Int8Block(int dim, std::uint32_t seed)
      : dim_(dim),
        data_(static_cast<signed char*>(std::aligned_alloc(
                  64, static_cast<std::size_t>(KvHeadBytes(dim, KvType::kInt8) + 63) / 64 * 64)),
              std::free) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> row(static_cast<std::size_t>(dim));
    for (int k = 0; k < kKvBlockTokens; ++k) {
      for (float& v : row) v = normal(random) * static_cast<float>(1 + k % 3);
      StoreKv(row.data(), dim, KvType::kInt8, bytes(), k);
    }
  }
  std::byte* bytes() { return reinterpret_cast<std::byte*>(data_.get()); }
  const signed char* data() const { return data_.get(); }
  double at(int key, int column) const {
    float scale;
    std::memcpy(&scale, data_.get() + kKvBlockTokens * dim_ + key * 4, sizeof(scale));
    return double{scale} * data_.get()[key * dim_ + column];
  }

 private:
  int dim_;
  std::unique_ptr<signed char, void (*)(void*)> data_;
};

// Against attention in double over the very integers: scores are exact, weights rounded to a 254th
// of the block's largest.
TEST(NpuRowKernelsTest, AttentionOverKeysAndValuesInInt8) {
  for (const int dim : {32, 128, 256}) {
    for (const int last : {0, 9, 15, 16, 47, 100}) {
      const AlignedRow numbers(static_cast<std::size_t>(dim), 7, 40);
      alignas(32) signed char query[256];
      for (int i = 0; i < dim; ++i) {
        query[i] = static_cast<signed char>(std::clamp(numbers.data()[i], -127.0f, 127.0f));
      }
      constexpr float kQueryScale = 1e-3f;
      AlignedRow out(static_cast<std::size_t>(dim));
      float state[2] = {-1e30f, 0};
      std::vector<double> scores, expected(static_cast<std::size_t>(dim));
      std::vector<Int8Block> keys, values;
      for (int block = 0; block <= last / 16; ++block) {
        keys.emplace_back(dim, 100 + block);
        values.emplace_back(dim, 200 + block);
        HostRows().attend_block_int8(query, kQueryScale, keys.back().data(), values.back().data(),
                                     std::min(16, last + 1 - block * 16), dim, state, out.data());
      }
      double best = -1e30, total = 0;
      for (int k = 0; k <= last; ++k) {
        double dot = 0;
        for (int i = 0; i < dim; ++i) dot += query[i] * keys[k / 16].at(k % 16, i);
        scores.push_back(dot * double{kQueryScale});
        best = std::max(best, scores.back());
      }
      for (int k = 0; k <= last; ++k) {
        const double weight = std::exp(scores[k] - best);
        total += weight;
        for (int i = 0; i < dim; ++i) expected[i] += weight * values[k / 16].at(k % 16, i);
      }
      EXPECT_NEAR(state[0], best, 1e-5 * std::abs(best) + 1e-6);
      EXPECT_NEAR(state[1], total, 1e-4 * total);
      ExpectClose(out.values(), expected, last == 0 ? 1e-5 : 0.015);
    }
  }
}

// Scores far apart: early keys are forgotten when a larger score comes, and late ones add nothing.
TEST(NpuRowKernelsTest, AttentionOfScoresFarApart) {
  constexpr int kDim = 16;
  for (const float second : {500.0f, -500.0f}) {
    AlignedRow query(kDim), keys(2 * 16 * kDim), values(2 * 16 * kDim), out(kDim);
    query.data()[0] = 1;
    keys.data()[0] = 1;
    keys.data()[16 * kDim] = second;
    std::fill_n(values.data(), kDim, 3.0f);
    std::fill_n(values.data() + 16 * kDim, kDim, 5.0f);
    float state[2] = {-1e30f, 0};
    for (int b = 0; b < 2; ++b) {
      HostRows().attend_block(query.data(), keys.data() + b * 16 * kDim,
                              values.data() + b * 16 * kDim, 1, kDim, state, out.data());
    }
    EXPECT_FLOAT_EQ(out.data()[kDim - 1] / state[1], second > 0 ? 5.0f : 3.0f);
  }
}

}  // namespace
}  // namespace tandem::npu
