#include "gpu-worker/stage/tuning.h"

#include <algorithm>

namespace tandem {
namespace {

constexpr std::uint32_t kAmd = 0x1002;
constexpr std::uint32_t kNvidia = 0x10de;

constexpr Tuning kRows[] = {
    {.name = "software",
     .software = true,
     .matvec_group = 16,
     .matvec_lanes = 8,
     .matvec_rows = 4,
     .matvec_fill = 64,
     .flops_per_second = 2e10,
     .bytes_per_second = 1e10},
    {.name = "nvidia",
     .vendor_id = kNvidia,
     .matvec_group = 32,
     .matvec_lanes = 8,
     .matvec_rows = 4,
     .matvec_fill = 1u << 17,
     .flops_per_second = 5e12,
     .bytes_per_second = 5e11},
    {.name = "amd",
     .vendor_id = kAmd,
     .matvec_group = 64,
     .matvec_lanes = 8,
     .matvec_rows = 4,
     .matvec_fill = 1u << 14,
     .flops_per_second = 1e12,
     .bytes_per_second = 5e10},
    {.name = "generic"},
};

// Registers for the results of a lane: rows times tokens.
constexpr std::uint32_t kMostSums = 16;

}  // namespace

const Tuning& TuningFor(const vulkan::PhysicalDevice& device) {
  const bool software = device.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
  for (const Tuning& row : kRows) {
    if (row.software && !software) continue;
    if (row.vendor_id != 0 && row.vendor_id != device.vendor_id) continue;
    return row;
  }
  return kRows[std::size(kRows) - 1];
}

MatvecShape ChooseMatvecShape(const Tuning& tuning, std::uint32_t rows, std::uint32_t tokens) {
  MatvecShape shape{tuning.matvec_group, tuning.matvec_lanes, tuning.matvec_rows, tokens};
  while (shape.rows > 1 && shape.rows * tokens > kMostSums) shape.rows /= 2;
  const auto running = [&] { return std::uint64_t{rows} * shape.lanes / shape.rows; };
  while (shape.rows > 1 && running() < tuning.matvec_fill) shape.rows /= 2;
  while (shape.lanes < shape.group && running() < tuning.matvec_fill) shape.lanes *= 2;
  return shape;
}

}  // namespace tandem
