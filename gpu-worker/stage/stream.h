#pragma once

#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/recorder.h"

namespace tandem {

// The end of the half layer in front of a product.
struct StreamNorm {
  vulkan::BufferSlice branch;
  vulkan::BufferSlice weight;
  float epsilon = 0;
  // Never the same memory.
  ResidualRef input;
  ResidualRef output;
  vulkan::BufferSlice next_weight;
};

// Whether the product of a step's only token can do the end of the half layer in front of it itself
// (kernels/stream), on this device. With `geglu` it is that of gate and up.
bool Streams(const DeviceContext& context, const Product& product, bool geglu);

// That, of bucket 1. Floats come out, with `geglu` 8-bit activations of the next product. Streams()
// is true of the product.
Op StreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
            const StreamNorm& norm, vulkan::BufferSlice output, bool geglu);

}  // namespace tandem
