#include "gpu-worker/stage/tuning.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint32_t kAmd = 0x1002;
constexpr std::uint32_t kNvidia = 0x10de;

constexpr Tuning kRows[] = {
    {.name = "software",
     .software = true,
     .norm_lanes = 32,
     .attention_parts = 1,
     .matvec_group = 32,
     .matvec_fill = 64,
     .flops_per_second = 2e10,
     .bytes_per_second = 1e10},
    {.name = "nvidia",
     .vendor_id = kNvidia,
     .norm_lanes = 512,
     .attention_parts = 8,
     .matvec_group = 128,
     .matvec_fill = 1u << 16,
     .matvec_shared = 24576,
     .flops_per_second = 5e12,
     .bytes_per_second = 5e11},
    {.name = "amd",
     .vendor_id = kAmd,
     .norm_lanes = 512,
     .matvec_group = 128,
     .matvec_fill = 1u << 14},
    {.name = "generic"},
};

// Registers for the results of a lane: rows times tokens.
constexpr std::uint32_t kMostSums = 16;

const Tuning& RowFor(const vulkan::PhysicalDevice& device) {
  const bool software = device.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
  for (const Tuning& row : kRows) {
    if (row.software && !software) continue;
    if (row.vendor_id != 0 && row.vendor_id != device.vendor_id) continue;
    return row;
  }
  return kRows[std::size(kRows) - 1];
}

}  // namespace

Tuning TuningFor(const vulkan::PhysicalDevice& device) {
  Tuning tuning = RowFor(device);
  const std::uint32_t most = std::bit_floor(device.limits.maxComputeWorkGroupInvocations);
  tuning.norm_lanes = std::min(tuning.norm_lanes, most);
  tuning.attention_parts = std::min(tuning.attention_parts, most / kAttentionLanes);
  tuning.matvec_group = std::min(tuning.matvec_group, most);
  tuning.matvec_shared = std::min(tuning.matvec_shared, device.limits.maxComputeSharedMemorySize);
  return tuning;
}

std::uint32_t MatvecSharedBytes(const MatvecShape& shape, std::uint32_t block_vecs) {
  const std::uint32_t partial = shape.rows * shape.tokens * shape.group * 4;
  return partial + shape.tokens * shape.tile_blocks * (block_vecs + 1) * 16;
}

MatvecShape ChooseMatvecShape(const Tuning& tuning, std::uint32_t rows, std::uint32_t blocks,
                              std::uint32_t block_vecs, std::uint32_t tokens) {
  MatvecShape shape{tuning.matvec_group, tuning.matvec_lanes, tuning.matvec_rows, tokens, 0};
  while (shape.rows > 1 && shape.rows * tokens > kMostSums) shape.rows /= 2;
  const auto running = [&] { return std::uint64_t{rows} * shape.lanes / shape.rows; };
  while (shape.rows > 1 && running() < tuning.matvec_fill) shape.rows /= 2;
  while (shape.lanes < std::min(shape.group, 32u) && running() < tuning.matvec_fill) {
    shape.lanes *= 2;
  }
  // As many columns at once as shared memory holds; a smaller workgroup where not even one round
  // fits.
  const auto fits = [&] { return MatvecSharedBytes(shape, block_vecs) <= tuning.matvec_shared; };
  shape.tile_blocks = shape.lanes;
  while (!fits() && shape.lanes > 8) shape.tile_blocks = shape.lanes /= 2;
  while (!fits() && shape.group > shape.lanes) shape.group /= 2;
  while (fits() && shape.tile_blocks < blocks) shape.tile_blocks += shape.lanes;
  if (!fits()) shape.tile_blocks -= shape.lanes;
  TANDEM_CHECK(fits() && shape.tile_blocks > 0);
  return shape;
}

}  // namespace tandem
