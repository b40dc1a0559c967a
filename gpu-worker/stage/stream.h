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

// What comes out of a product, and for what list: floats, or with `geglu` 8-bit activations of the
// next product; with `chained` the op is for a chain (chain.h), which it does not join.
struct StreamKind {
  bool geglu = false;
  bool chained = false;
};
// Whether the product of a step's only token can do the end of the half layer in front of it itself
// (kernels/stream), on this device. With `geglu` it is that of gate and up.
bool Streams(const DeviceContext& context, const Product& product, StreamKind kind);

// Such a product of bucket 1. Streams() is true of it.
Op StreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
            const StreamNorm& norm, vulkan::BufferSlice output, StreamKind kind);

// The same of a product that ends a half layer and reads 8-bit activations, for a chain.
bool StreamsPlain(const DeviceContext& context, const Product& product);
Op PlainStreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
                 vulkan::BufferSlice input, vulkan::BufferSlice output);

}  // namespace tandem
