#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "gpu-worker/vulkan/buffer.h"

namespace tandem {

// Up to so many vectors the mat-vec kernel runs, beyond it the tiled one.
inline constexpr std::uint32_t kMaxMatvecTokens = 8;

// "bf16", "int8", "int4": the end of a kernel's name. UNIMPLEMENTED for a format that no kernel
// reads, or a shape that its 16-byte loads do not fit; `name` names the tensor.
absl::StatusOr<std::string> KernelSuffix(const DeviceTensor& tensor, const std::string& name);

struct MatmulTarget {
  vulkan::BufferSlice output;
  std::uint32_t stride = 0;  // floats from row to row
  std::uint32_t offset = 0;  // where in a row the product begins
};

// Appends matrix * input to `ops`: one op for each chunk of the matrix. `count` is kRowsAreTokens
// or kRowsAreLogits. The first op waits for what came before if `barrier`; chunks do not wait for
// each other.
absl::Status AppendMatmul(const DeviceContext& context, const std::string& name,
                          const DeviceTensor& matrix, vulkan::BufferSlice step,
                          vulkan::BufferSlice input, const MatmulTarget& target,
                          std::uint32_t count, bool barrier, std::vector<Op>* ops);

}  // namespace tandem
