#include "loader/pack/pack_rows.h"

#include <cstring>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/weights/quantize.h"

namespace tandem {
namespace {

constexpr std::size_t kGroup = kGroupSize;

bool FiniteHalf(std::uint16_t half) { return (half & 0x7c00u) != 0x7c00u; }

// One block of 32 values each: quants into `out`. The scale is the block's first two bytes.
void Q8ToInt8(const std::byte* block, std::byte* out) { std::memcpy(out, block + 2, kGroup); }

void Q5ToInt8(const std::byte* block, std::byte* out) {
  std::uint32_t fifth;
  std::memcpy(&fifth, block + 2, 4);
  for (std::size_t i = 0; i < 16; ++i) {
    const auto packed = static_cast<unsigned>(block[6 + i]);
    out[i] = static_cast<std::byte>(((packed & 15u) | (fifth >> i & 1u) << 4) - 16u);
    out[i + 16] = static_cast<std::byte>((packed >> 4 | (fifth >> (i + 16) & 1u) << 4) - 16u);
  }
}

void Q4ToInt8(const std::byte* block, std::byte* out) {
  for (std::size_t i = 0; i < 16; ++i) {
    const auto packed = static_cast<unsigned>(block[2 + i]);
    out[i] = static_cast<std::byte>((packed & 15u) - 8u);
    out[i + 16] = static_cast<std::byte>((packed >> 4) - 8u);
  }
}

void Q4ToInt4(const std::byte* block, std::byte* out) { std::memcpy(out, block + 2, 16); }

template <void (*kConvert)(const std::byte*, std::byte*), std::size_t kBlockBytes,
          std::size_t kOutBytes>
bool Repack(std::span<const std::byte> raw, std::span<std::byte> values,
            std::span<std::byte> scales) {
  const std::size_t blocks = raw.size() / kBlockBytes;
  TANDEM_CHECK(values.size() == blocks * kOutBytes && scales.size() == blocks * 2);
  bool finite = true;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::byte* block = raw.data() + i * kBlockBytes;
    std::uint16_t scale;
    std::memcpy(&scale, block, 2);
    finite &= FiniteHalf(scale);
    std::memcpy(scales.data() + i * 2, &scale, 2);
    kConvert(block, values.data() + i * kOutBytes);
  }
  return finite;
}

// A pass-through for this pair of types, or null.
using RepackFunction = bool (*)(std::span<const std::byte>, std::span<std::byte>,
                                std::span<std::byte>);
RepackFunction RepackFor(const PackJob& job) {
  if (job.offset != 0) return nullptr;
  if (job.target == WeightFormat::kInt4 && job.source == SourceType::kQ4_0)
    return Repack<Q4ToInt4, 18, 16>;
  if (job.target != WeightFormat::kInt8) return nullptr;
  if (job.source == SourceType::kQ8_0) return Repack<Q8ToInt8, 34, 32>;
  if (job.source == SourceType::kQ5_0) return Repack<Q5ToInt8, 22, 32>;
  if (job.source == SourceType::kQ4_0) return Repack<Q4ToInt8, 18, 32>;
  return nullptr;
}

bool VerbatimIsFinite(const PackJob& job, std::span<const std::byte> values) {
  if (job.target == WeightFormat::kBf16) {
    return AllFiniteBf16(
        {reinterpret_cast<const std::uint16_t*>(values.data()), values.size() / 2});
  }
  return AllFinite({reinterpret_cast<const float*>(values.data()), values.size() / 4});
}

bool ThroughFloats(const PackJob& job, std::span<const std::byte> raw, std::span<std::byte> values,
                   std::span<std::byte> scales, std::vector<float>& scratch) {
  const std::size_t raw_row = RowBytesOf(job.source, job.cols);
  const RowBytes row = RowBytesOf(job.target, job.cols);
  scratch.resize(static_cast<std::size_t>(job.cols));
  for (std::size_t r = 0; r < raw.size() / raw_row; ++r) {
    DequantizeSource(job.source, raw.subspan(r * raw_row, raw_row), scratch);
    if (job.offset != 0) {
      for (float& v : scratch) v += job.offset;
    }
    if (!QuantizeRow(scratch, job.target, values.subspan(r * row.values, row.values),
                     scales.subspan(r * row.scales, row.scales))) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool IsVerbatim(const PackJob& job) {
  if (job.offset != 0) return false;
  return (job.source == SourceType::kBf16 && job.target == WeightFormat::kBf16) ||
         (job.source == SourceType::kF32 && job.target == WeightFormat::kF32);
}

bool PackRows(const PackJob& job, std::span<const std::byte> raw, std::span<std::byte> values,
              std::span<std::byte> scales, std::vector<float>& scratch) {
  if (IsVerbatim(job)) {
    TANDEM_CHECK(raw.size() == values.size());
    if (raw.data() != values.data()) std::memcpy(values.data(), raw.data(), raw.size());
    return VerbatimIsFinite(job, values);
  }
  if (const RepackFunction repack = RepackFor(job); repack != nullptr)
    return repack(raw, values, scales);
  return ThroughFloats(job, raw, values, scales, scratch);
}

}  // namespace tandem
