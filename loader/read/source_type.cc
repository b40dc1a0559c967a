#include "loader/read/source_type.h"

#include <bit>
#include <cstring>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

struct TypeInfo {
  SourceType type;
  const char* name;
  BlockSize block;
};

constexpr TypeInfo kTypes[] = {
    {SourceType::kF32, "F32", {1, 4}},      {SourceType::kF16, "F16", {1, 2}},
    {SourceType::kBf16, "BF16", {1, 2}},    {SourceType::kQ8_0, "Q8_0", {32, 34}},
    {SourceType::kQ5_0, "Q5_0", {32, 22}},  {SourceType::kQ4_0, "Q4_0", {32, 18}},
    {SourceType::kQ4K, "Q4_K", {256, 144}}, {SourceType::kQ5K, "Q5_K", {256, 176}},
    {SourceType::kQ6K, "Q6_K", {256, 210}},
};

const TypeInfo& InfoOf(SourceType type) {
  const TypeInfo& info = kTypes[static_cast<std::size_t>(type)];
  TANDEM_CHECK(info.type == type);
  return info;
}

using Bytes = const std::uint8_t*;

float LoadHalf(Bytes p) { return HalfToFloat(static_cast<std::uint16_t>(p[0] | p[1] << 8)); }

void Q8_0(Bytes in, float* out) {
  const float d = LoadHalf(in);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(in[2 + i])) * d;
}

void Q4_0(Bytes in, float* out) {
  const float d = LoadHalf(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((in[2 + i] & 15) - 8) * d;
    out[i + 16] = static_cast<float>((in[2 + i] >> 4) - 8) * d;
  }
}

void Q5_0(Bytes in, float* out) {
  const float d = LoadHalf(in);
  std::uint32_t fifth;
  std::memcpy(&fifth, in + 2, 4);
  for (int i = 0; i < 16; ++i) {
    const int low = (in[6 + i] & 15) | static_cast<int>((fifth >> i & 1u) << 4);
    const int high = (in[6 + i] >> 4) | static_cast<int>((fifth >> (i + 16) & 1u) << 4);
    out[i] = static_cast<float>(low - 16) * d;
    out[i + 16] = static_cast<float>(high - 16) * d;
  }
}

// The six-bit scale and minimum of sub-block `j` (0 to 7). The first four have their six bits in
// bytes j and j + 4; the others have four bits in byte j + 4 and borrow the two upper bits of bytes
// j - 4 and j.
struct ScaleMin {
  float scale;
  float min;
};
ScaleMin SixBits(Bytes s, int j) {
  if (j < 4) return {static_cast<float>(s[j] & 63), static_cast<float>(s[j + 4] & 63)};
  return {static_cast<float>((s[j + 4] & 15) | (s[j - 4] >> 6) << 4),
          static_cast<float>((s[j + 4] >> 4) | (s[j] >> 6) << 4)};
}

// Q4_K, and Q5_K where `fifth` points at the fifth bits: bit j of byte l belongs to value l of
// sub-block j.
void Q45K(Bytes in, Bytes fifth, Bytes nibbles, float* out) {
  const float d = LoadHalf(in);
  const float dmin = LoadHalf(in + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin sm = SixBits(in + 4, j);
    const Bytes q = nibbles + j / 2 * 32;
    for (int l = 0; l < 32; ++l) {
      int value = j % 2 == 0 ? q[l] & 15 : q[l] >> 4;
      if (fifth != nullptr) value |= (fifth[l] >> j & 1) << 4;
      out[j * 32 + l] = d * sm.scale * static_cast<float>(value) - dmin * sm.min;
    }
  }
}

void Q4K(Bytes in, float* out) { Q45K(in, nullptr, in + 16, out); }
void Q5K(Bytes in, float* out) { Q45K(in, in + 16, in + 48, out); }

// Two halves of 128 values; in each, value l of quarter k has its nibble in byte 32 * (k % 2) + l
// (low for k < 2) and its upper bits at 2k of byte l.
void Q6K(Bytes in, float* out) {
  const float d = LoadHalf(in + 208);
  for (int half = 0; half < 2; ++half) {
    const Bytes low = in + half * 64;
    const Bytes high = in + 128 + half * 32;
    const Bytes scales = in + 192 + half * 8;
    for (int k = 0; k < 4; ++k) {
      for (int l = 0; l < 32; ++l) {
        const std::uint8_t packed = low[k % 2 * 32 + l];
        const int q = (k < 2 ? packed & 15 : packed >> 4) | (high[l] >> (2 * k) & 3) << 4;
        const auto scale = static_cast<float>(static_cast<std::int8_t>(scales[2 * k + l / 16]));
        out[half * 128 + k * 32 + l] = d * scale * static_cast<float>(q - 32);
      }
    }
  }
}

void ForEachBlock(BlockSize block, Bytes in, std::span<float> out, void (*one)(Bytes, float*)) {
  for (std::size_t done = 0; done < out.size();
       done += static_cast<std::size_t>(block.elements), in += block.bytes) {
    one(in, out.data() + done);
  }
}

// The plain 16-bit types in loops that vectorise: whole models come in them.
template <typename Convert>
void Widen(Bytes in, std::span<float> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, in + i * 2, 2);
    out[i] = std::bit_cast<float>(convert(static_cast<std::uint32_t>(bits)));
  }
}

std::uint32_t WidenBf16(std::uint32_t bits) { return bits << 16; }

// Without branches: the exponent is moved by a product, which sets subnormals right too; infinity
// and NaN keep all their ones.
std::uint32_t WidenHalf(std::uint32_t bits) {
  const std::uint32_t magnitude = (bits & 0x7fffu) << 13;
  const auto moved = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return moved | special | (bits & 0x8000u) << 16;
}

}  // namespace

std::string_view SourceTypeName(SourceType type) { return InfoOf(type).name; }
BlockSize BlockSizeOf(SourceType type) { return InfoOf(type).block; }

std::uint64_t RowBytesOf(SourceType type, std::int64_t cols) {
  const BlockSize block = BlockSizeOf(type);
  TANDEM_CHECK(cols % block.elements == 0);
  return static_cast<std::uint64_t>(cols / block.elements * block.bytes);
}

void DequantizeSource(SourceType type, std::span<const std::byte> in, std::span<float> out) {
  TANDEM_CHECK(in.size() == RowBytesOf(type, static_cast<std::int64_t>(out.size())));
  const BlockSize block = BlockSizeOf(type);
  const Bytes bytes = reinterpret_cast<Bytes>(in.data());
  switch (type) {
    case SourceType::kF32:
      std::memcpy(out.data(), bytes, in.size());
      return;
    case SourceType::kF16:
      return Widen(bytes, out, [](std::uint32_t bits) { return WidenHalf(bits); });
    case SourceType::kBf16:
      return Widen(bytes, out, [](std::uint32_t bits) { return WidenBf16(bits); });
    case SourceType::kQ8_0:
      return ForEachBlock(block, bytes, out, Q8_0);
    case SourceType::kQ5_0:
      return ForEachBlock(block, bytes, out, Q5_0);
    case SourceType::kQ4_0:
      return ForEachBlock(block, bytes, out, Q4_0);
    case SourceType::kQ4K:
      return ForEachBlock(block, bytes, out, Q4K);
    case SourceType::kQ5K:
      return ForEachBlock(block, bytes, out, Q5K);
    case SourceType::kQ6K:
      return ForEachBlock(block, bytes, out, Q6K);
  }
  TANDEM_CHECK(false);
}

}  // namespace tandem
