#pragma once

#include <cstdint>
#include <string>

#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/recorder.h"
#include "lib/device/device.h"
#include "lib/model/config.h"

namespace tandem {

// How attention of steps in which every sequence has one token is shaped (kernels/decode).
struct DecodeShape {
  std::uint32_t threads = 0;
  std::uint32_t shared_heads = 0;
  std::uint32_t lanes = 0;
  std::uint32_t unroll = 0;
  std::uint32_t splits = 0;

  std::uint32_t Groups(const ModelConfig& config) const {
    return static_cast<std::uint32_t>(config.num_heads) / shared_heads;
  }
};
// Of a bucket of `rows` tokens.
DecodeShape ChooseDecodeShape(const DeviceContext& context, const ModelConfig& config,
                              std::uint32_t rows);
// Whether the device and the shape of heads fit the kernel; else such steps run as all others do.
bool DecodesApart(const DeviceContext& context, const ModelConfig& config);

// What the kernels keep in memory for steps of up to `rows` tokens: floats of splits, and counters
// (decode_params.h).
struct DecodeRoom {
  std::uint64_t split_floats = 4;
  std::uint64_t counters = 1;
  // Of chained lists (chain.h); 0: there are none.
  std::uint64_t chain_words = 0;
};
DecodeRoom RoomForDecode(const DeviceContext& context, const ModelConfig& config,
                         std::uint32_t rows);

// What the op works on; the products are those that write qkv and read what is attended. With
// `chained` it is for a chain (chain.h), which it does not join.
struct DecodeBuffers {
  vulkan::BufferSlice step, qkv, keys, values, attended, query_norm, key_norm, frequencies;
  vulkan::BufferSlice splits, counters;
};
Op DecodeOp(const DeviceContext& context, const ModelConfig& config, std::string name,
            const DecodeBuffers& buffers, const Product& writer, const Product& reader, KvType type,
            std::uint32_t window, bool chained);

}  // namespace tandem
