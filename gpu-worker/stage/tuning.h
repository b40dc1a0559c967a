#pragma once

#include <cstdint>
#include <string_view>

#include "gpu-worker/vulkan/physical_device.h"

namespace tandem {

// How kernels are shaped for a kind of device, and how fast it roughly is. The first row that
// matches counts; the last matches all.
struct Tuning {
  std::string_view name;
  std::uint32_t vendor_id = 0;  // PCI vendor; 0: any
  bool software = false;        // a software rasteriser only
  std::uint32_t matvec_group =
      32;  // invocations of a workgroup: one subgroup keeps its barrier free
  std::uint32_t matvec_lanes = 8;  // that share a row, where there are rows enough
  std::uint32_t matvec_rows =
      4;  // that a lane takes at once, where there are rows enough: loads in flight, and reuse of x
  std::uint32_t matvec_fill = 8192;  // invocations that fill the device: fewer rows a lane, then
                                     // more lanes a row, until so many run
  double flops_per_second =
      1e12;  // careful guesses: they bound the length of one submission, nothing else
  double bytes_per_second = 5e10;
};
const Tuning& TuningFor(const vulkan::PhysicalDevice& device);

// Specialisation constants of the mat-vec kernel.
struct MatvecShape {
  std::uint32_t group = 0;
  std::uint32_t lanes = 0;
  std::uint32_t rows = 0;
  std::uint32_t tokens = 0;
  bool operator==(const MatvecShape&) const = default;
};
// For a matrix of `rows` x `cols` times `tokens` vectors.
MatvecShape ChooseMatvecShape(const Tuning& tuning, std::uint32_t rows, std::uint32_t tokens);

}  // namespace tandem
