#include <algorithm>
#include <cstring>
#include <vector>

#include "npu-worker/kernels/host_kernels.h"
#include "npu-worker/product/product_sequence.h"
#include "tests/fake_amdxdna/array_design.h"

namespace tandem::npu {

namespace {

// Padding: activations whose scales are all zero add zeros, which changes no sum.
bool AllZero(const std::byte* activations) {
  const std::byte* scales = activations + kActivationQuantBytes;
  return std::all_of(scales, scales + kActivationScaleBytes,
                     [](std::byte b) { return b == std::byte{0}; });
}

class ProductArray : public ArrayDesign {
 public:
  ProductArray(const ArrayShape& array, bool int4)
      : array_(array),
        weight_bytes_(WeightChunkBytes(int4)),
        zero_(HostKernelsFor(array).zero),
        product_(int4 ? HostKernelsFor(array).int4 : HostKernelsFor(array).int8),
        cores_(std::size_t{array.columns} * array.rows),
        stream_(std::max(weight_bytes_, kActivationChunkBytes)) {
    for (Core& core : cores_) {
      core.memory.Lay(kCoreParameterBytes);
      core.weights = core.memory.Lay(2 * weight_bytes_);
      core.activations = core.memory.Lay(2 * kActivationChunkBytes);
      core.sums = core.memory.Lay(kOutputTileBytes);
    }
  }

  std::string WriteCore(std::uint32_t column, std::uint32_t row, std::uint32_t offset,
                        std::uint32_t value) override {
    if (offset != kModelParameterAddress)
      return At("write to a core beside its parameter", column, offset);
    cores_[column * array_.rows + row].parameter = value;
    return "";
  }

  std::string Advance(ArrayStreams* streams) override {
    while (true) {
      const std::uint32_t chunks = cores_[0].parameter;
      for (const Core& core : cores_) {
        if (core.parameter != chunks) return "";  // some cores are not set up yet
      }
      if (chunks == 0 || !Ready(*streams, chunks)) return "";
      std::string error = ComputeTiles(streams, chunks);
      if (!error.empty()) return error;
    }
  }

  // Its cores hold nothing between tiles.
  std::string Idle() const override { return ""; }

 private:
  struct Core {
    std::uint32_t parameter = 0;
    CoreMemory memory;
    std::byte* weights = nullptr;
    std::byte* activations = nullptr;
    std::byte* sums = nullptr;
  };

  // Whether every stream has the inputs of one tile queued and every output has room.
  bool Ready(const ArrayStreams& streams, std::uint64_t chunks) const {
    for (std::uint32_t c = 0; c < array_.columns; ++c) {
      if (c < array_.rows &&
          streams.Left(c, Direction::kFromMemory, kWeightsChannel) < chunks * weight_bytes_)
        return false;
      if (streams.Left(c, Direction::kFromMemory, kActivationsChannel) <
              chunks * kActivationChunkBytes ||
          streams.Left(c, Direction::kToMemory, kOutputChannel) <
              std::uint64_t{array_.rows} * kOutputTileBytes)
        return false;
    }
    return true;
  }

  // One tile on each core: `chunks` times the inputs, then the outputs.
  std::string ComputeTiles(ArrayStreams* streams, std::uint32_t chunks) {
    for (Core& core : cores_) zero_(reinterpret_cast<float*>(core.sums));
    for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) {
      // Double buffers take turns.
      std::string error = TakeWeights(streams, chunk % 2 * weight_bytes_);
      for (std::uint32_t c = 0; c < array_.columns && error.empty(); ++c)
        error = ComputeColumn(streams, c, chunk % 2);
      if (!error.empty()) return error;
    }
    for (std::uint32_t c = 0; c < array_.columns; ++c) {
      for (std::uint32_t r = 0; r < array_.rows; ++r) {
        std::string error =
            streams->Put(c, kOutputChannel, cores_[c * array_.rows + r].sums, kOutputTileBytes);
        if (!error.empty()) return error;
      }
    }
    return "";
  }

  std::string TakeWeights(ArrayStreams* streams, std::uint32_t at) {
    for (std::uint32_t r = 0; r < array_.rows; ++r) {
      std::string error = streams->Take(r, kWeightsChannel, stream_.data(), weight_bytes_);
      if (!error.empty()) return error;
      for (std::uint32_t c = 0; c < array_.columns; ++c)
        std::memcpy(cores_[c * array_.rows + r].weights + at, stream_.data(), weight_bytes_);
    }
    return "";
  }

  std::string ComputeColumn(ArrayStreams* streams, std::uint32_t c, std::uint32_t turn) {
    std::string error =
        streams->Take(c, kActivationsChannel, stream_.data(), kActivationChunkBytes);
    if (!error.empty()) return error;
    const bool padding = AllZero(stream_.data());
    for (std::uint32_t r = 0; r < array_.rows; ++r) {
      Core& core = cores_[c * array_.rows + r];
      std::byte* activations = core.activations + turn * kActivationChunkBytes;
      std::memcpy(activations, stream_.data(), kActivationChunkBytes);
      if (padding) continue;
      product_(reinterpret_cast<const signed char*>(core.weights + turn * weight_bytes_),
               reinterpret_cast<const signed char*>(activations),
               reinterpret_cast<float*>(core.sums));
    }
    return "";
  }

  const ArrayShape array_;
  const std::uint32_t weight_bytes_;
  void (*const zero_)(float*);
  void (*const product_)(const signed char*, const signed char*, float*);
  std::vector<Core> cores_;  // [column][row]
  std::vector<std::byte> stream_;
};

}  // namespace

std::unique_ptr<ArrayDesign> ProductDesign(const ArrayShape& array, bool int4) {
  return std::make_unique<ProductArray>(array, int4);
}

}  // namespace tandem::npu
