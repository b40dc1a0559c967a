#include <algorithm>
#include <vector>

#include "npu-worker/kernels/host_kernels.h"
#include "npu-worker/kernels/rows_shape.h"
#include "tests/fake_amdxdna/array_design.h"

namespace tandem::npu {
namespace {

class RowsArray : public ArrayDesign {
 public:
  explicit RowsArray(const ArrayShape& array)
      : array_(array),
        kernels_(HostRows()),
        cores_(std::size_t{array.columns} * array.rows),
        begun_(array.columns, false) {
    for (Core& core : cores_) {
      core.row = core.memory.Lay(kRowBytes);
      core.pairs = core.memory.Lay(2 * kRowPairBytes);
      core.chunks = core.memory.Lay(2 * kRowChunkBytes);
      core.progress = core.memory.Lay(kRowsProgressBytes);
    }
  }

  std::string WriteCore(std::uint32_t column, std::uint32_t /*row*/, std::uint32_t offset,
                        std::uint32_t /*value*/) override {
    return At("write to a core, which this design has no parameter in", column, offset);
  }

  // Columns know nothing of each other.
  std::string Advance(ArrayStreams* streams) override {
    for (std::uint32_t c = 0; c < array_.columns; ++c) {
      while (true) {
        if (!begun_[c]) {
          if (streams->Left(c, Direction::kFromMemory, 0) <
              std::uint64_t{array_.rows} * kRowPairBytes)
            break;
          std::string error = Begin(streams, c);
          if (!error.empty()) return error;
        }
        if (!RestIsThere(*streams, c)) break;
        std::string error = Compute(streams, c);
        if (!error.empty()) return error;
      }
    }
    return "";
  }

  std::string Idle() const override {
    const bool any = std::any_of(begun_.begin(), begun_.end(), [](bool b) { return b; });
    return any ? "the instructions end while cores wait for rows" : "";
  }

 private:
  struct Core {
    CoreMemory memory;
    std::byte* row = nullptr;
    std::byte* pairs = nullptr;
    std::byte* chunks = nullptr;
    std::byte* progress = nullptr;
    const RowsHeader& header() const {
      return reinterpret_cast<const RowsProgress*>(progress)->header;
    }
    int* state() const { return reinterpret_cast<int*>(progress); }
  };
  Core& CoreOf(std::uint32_t column, std::uint32_t row) {
    return cores_[column * array_.rows + row];
  }

  std::string Begin(ArrayStreams* streams, std::uint32_t c) {
    for (std::uint32_t r = 0; r < array_.rows; ++r) {
      Core& core = CoreOf(c, r);
      std::string error = streams->Take(c, 0, core.pairs, kRowPairBytes);
      if (!error.empty()) return error;
      kernels_.begin(reinterpret_cast<const float*>(core.pairs), core.state());
      const RowsHeader& header = core.header();
      const RowsHeader& first = CoreOf(c, 0).header();
      if (header.chunks < 1 || header.chunks > static_cast<int>(kMostRowChunks))
        return At("rows longer than a core keeps", c, static_cast<std::uint32_t>(header.chunks));
      // They share the memory tile's objects: where one takes less than another, both wait.
      if (header.rows < 1 || header.rows != first.rows || header.chunks != first.chunks)
        return At("cores that wait for different numbers of rows", c,
                  static_cast<std::uint32_t>(header.rows));
    }
    begun_[c] = true;
    return "";
  }

  bool RestIsThere(const ArrayStreams& streams, std::uint32_t c) {
    const RowsHeader& header = CoreOf(c, 0).header();
    const std::uint64_t chunks = static_cast<std::uint64_t>(header.rows) *
                                 static_cast<std::uint64_t>(header.chunks) * array_.rows;
    return streams.Left(c, Direction::kFromMemory, 0) >= chunks * kRowPairBytes &&
           streams.Left(c, Direction::kToMemory, 0) >= chunks * kRowChunkBytes;
  }

  std::string Compute(ArrayStreams* streams, std::uint32_t c) {
    const RowsHeader header = CoreOf(c, 0).header();
    for (std::int32_t row = 0; row < header.rows; ++row) {
      // Double buffers take turns.
      for (std::int32_t chunk = 0; chunk < header.chunks; ++chunk) {
        for (std::uint32_t r = 0; r < array_.rows; ++r) {
          Core& core = CoreOf(c, r);
          std::byte* pair = core.pairs + chunk % 2 * kRowPairBytes;
          std::string error = streams->Take(c, 0, pair, kRowPairBytes);
          if (!error.empty()) return error;
          kernels_.take(reinterpret_cast<const float*>(pair), reinterpret_cast<float*>(core.row),
                        core.state());
        }
      }
      for (std::int32_t chunk = 0; chunk < header.chunks; ++chunk) {
        for (std::uint32_t r = 0; r < array_.rows; ++r) {
          Core& core = CoreOf(c, r);
          std::byte* out = core.chunks + chunk % 2 * kRowChunkBytes;
          kernels_.give(reinterpret_cast<const float*>(core.row), core.state(),
                        reinterpret_cast<float*>(out));
          std::string error = streams->Put(c, 0, out, kRowChunkBytes);
          if (!error.empty()) return error;
        }
      }
    }
    begun_[c] = false;
    return "";
  }

  const ArrayShape array_;
  const HostRowKernels& kernels_;
  std::vector<Core> cores_;  // [column][row]
  std::vector<bool> begun_;
};

}  // namespace

std::unique_ptr<ArrayDesign> RowsDesign(const ArrayShape& array) {
  return std::make_unique<RowsArray>(array);
}

}  // namespace tandem::npu
