#include <vector>

#include "npu-worker/kernels/attention_shape.h"
#include "npu-worker/kernels/host_kernels.h"
#include "tests/fake_amdxdna/array_design.h"

namespace tandem::npu {
namespace {

class AttentionArray : public ArrayDesign {
 public:
  explicit AttentionArray(const ArrayShape& array)
      : array_(array),
        kernels_(HostAttentionFor(array)),
        cores_(std::size_t{array.columns} * array.rows),
        stream_(kKeyValueChunkBytes) {
    for (Core& core : cores_) {
      core.queries = core.memory.Lay(kQueryTileBytes);
      core.chunks = core.memory.Lay(2 * kKeyValueChunkBytes);
      core.out = core.memory.Lay(kAttentionOutBytes);
      core.progress = core.memory.Lay(kAttentionProgressBytes);
    }
  }

  std::string WriteCore(std::uint32_t column, std::uint32_t /*row*/, std::uint32_t offset,
                        std::uint32_t /*value*/) override {
    return At("write to a core, which this design has no parameter in", column, offset);
  }

  std::string Advance(ArrayStreams* streams) override {
    while (true) {
      if (!holds_queries_) {
        if (!QueriesAreThere(*streams)) return "";
        std::string error = TakeQueries(streams);
        if (!error.empty()) return error;
      }
      if (!RestIsThere(*streams)) return "";
      std::string error = Compute(streams);
      if (!error.empty()) return error;
    }
  }

  std::string Idle() const override {
    return holds_queries_ ? "the instructions end while cores hold queries" : "";
  }

 private:
  struct Core {
    CoreMemory memory;
    std::byte* queries = nullptr;
    std::byte* chunks = nullptr;
    std::byte* out = nullptr;
    std::byte* progress = nullptr;
    const signed char* tile() const { return reinterpret_cast<const signed char*>(queries); }
    signed char* state() const { return reinterpret_cast<signed char*>(progress); }
    float* sums() const { return reinterpret_cast<float*>(out); }
    std::int32_t header(std::uint32_t word) const {
      return reinterpret_cast<const std::int32_t*>(queries)[word];
    }
  };

  bool QueriesAreThere(const ArrayStreams& streams) const {
    for (std::uint32_t c = 0; c < array_.columns; ++c) {
      if (streams.Left(c, Direction::kFromMemory, 1) < std::uint64_t{array_.rows} * kQueryTileBytes)
        return false;
    }
    return true;
  }

  std::string TakeQueries(ArrayStreams* streams) {
    for (std::uint32_t i = 0; i < cores_.size(); ++i) {
      std::string error = streams->Take(i / array_.rows, 1, cores_[i].queries, kQueryTileBytes);
      if (!error.empty()) return error;
      const Core& core = cores_[i];
      const std::int32_t dim = core.header(kHeaderHeadDim);
      if (!AttentionTakes(dim))
        return At("queries of a size without a kernel", i / array_.rows,
                  static_cast<std::uint32_t>(dim));
      // The cores of a row get one stream: where one takes less of it than another, both wait.
      if (core.header(kHeaderChunks) < 0 ||
          core.header(kHeaderChunks) != cores_[i % array_.rows].header(kHeaderChunks)) {
        return At("cores of a row that wait for different numbers of chunks", i / array_.rows,
                  static_cast<std::uint32_t>(core.header(kHeaderChunks)));
      }
    }
    holds_queries_ = true;
    return "";
  }

  bool RestIsThere(const ArrayStreams& streams) const {
    for (std::uint32_t r = 0; r < array_.rows; ++r) {
      const auto chunks = static_cast<std::uint64_t>(cores_[r].header(kHeaderChunks));
      if (streams.Left(r, Direction::kFromMemory, 0) < chunks * kKeyValueChunkBytes) return false;
    }
    for (std::uint32_t c = 0; c < array_.columns; ++c) {
      if (streams.Left(c, Direction::kToMemory, 0) <
          std::uint64_t{array_.rows} * kAttentionOutBytes)
        return false;
    }
    return true;
  }

  std::string Compute(ArrayStreams* streams) {
    for (const Core& core : cores_) kernels_.begin(core.tile(), core.state(), core.sums());
    for (std::uint32_t r = 0; r < array_.rows; ++r) {
      const std::int32_t chunks = cores_[r].header(kHeaderChunks);
      for (std::int32_t chunk = 0; chunk < chunks; ++chunk) {
        std::string error = streams->Take(r, 0, stream_.data(), kKeyValueChunkBytes);
        if (!error.empty()) return error;
        for (std::uint32_t c = 0; c < array_.columns; ++c) {
          const Core& core = cores_[c * array_.rows + r];
          // Double buffers take turns.
          std::byte* at = core.chunks + chunk % 2 * kKeyValueChunkBytes;
          std::copy(stream_.begin(), stream_.end(), at);
          kernels_.chunk(core.tile(), reinterpret_cast<const signed char*>(at), core.state(),
                         core.sums());
        }
      }
    }
    for (std::uint32_t i = 0; i < cores_.size(); ++i) {
      const Core& core = cores_[i];
      kernels_.end(core.tile(), core.state(), core.sums());
      std::string error = streams->Put(i / array_.rows, 0, core.out, kAttentionOutBytes);
      if (!error.empty()) return error;
    }
    holds_queries_ = false;
    return "";
  }

  const ArrayShape array_;
  const HostAttentionKernels& kernels_;
  std::vector<Core> cores_;  // [column][row]
  std::vector<std::byte> stream_;
  bool holds_queries_ = false;
};

}  // namespace

std::unique_ptr<ArrayDesign> AttentionDesign(const ArrayShape& array) {
  return std::make_unique<AttentionArray>(array);
}

}  // namespace tandem::npu
