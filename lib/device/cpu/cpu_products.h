#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "lib/base/thread_pool.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_parts.h"
#include "lib/device/cpu/kernels.h"
#include "lib/device/cpu/product_unit.h"

namespace tandem {

// Memory that every stage of a program works in; one of them runs at a time. Sizes are the largest
// that any stage needs.
struct CpuScratchSizes {
  std::int64_t tokens = 0;
  // Widths in floats: queries are heads * head_dim, keys kv_heads * head_dim.
  std::int64_t hidden = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t ffn = 0;
  std::int64_t head_dim = 0;
  // Widest input of an int8 product and of a float product; 0 for none.
  std::int64_t quantized = 0;
  std::int64_t tile = 0;
};

struct CpuScratch {
  absl::Status Reserve(const CpuScratchSizes& sizes, int threads, CpuCounters* counters);
  std::uint64_t bytes() const;

  CpuScratchSizes sizes;
  // (tokens, hidden): the residual where neither neighbour takes it, normed, a half's result.
  CpuBuffer residual, normed, projected;
  // (tokens, queries)
  CpuBuffer queries, attended;
  // (tokens, keys)
  CpuBuffer keys, values;
  // (tokens, ffn)
  CpuBuffer gate, up;
  // Four planes (tokens, head_dim / 2): cosines, sines; local, global.
  CpuBuffer rope;
  // (tokens, quantized): the input of a product, and beside it the next one's.
  struct Quants {
    CpuBuffer plain, split, biased, scales, sums;
    // Of `rows` rows of `cols` columns.
    QuantizedRows Rows(std::int64_t rows, std::int64_t cols) const;
  };
  Quants quants[2];
  // (threads, Int8ScratchBytes)
  CpuBuffer int8_tiles;
  // (threads, kTileRows * tile)
  CpuBuffer tiles;
};

// Matrix products over the pool. Allocates nothing. One thread at a time.
class CpuProducts {
 public:
  // `unit` computes the products where it is not null.
  CpuProducts(ThreadPool* pool, ProductUnit* unit, CpuPartTimes* times, CpuScratch* scratch)
      : pool_(pool), unit_(unit), times_(times), scratch_(scratch) {}

  // Work that is left when `*cancelled` turns true, or when the unit fails, is skipped.
  void Begin(ActivationType activations, const std::atomic<bool>* cancelled);
  bool cancelled() const { return failed_ || cancelled_->load(std::memory_order_relaxed); }
  // The unit's first failure since Begin.
  const absl::Status& result() const { return result_; }

  int threads() const { return pool_->threads(); }

  // x becomes the input of the products that follow: `cols` values of each row, which must stay
  // until then. Where activations may be int8, its quantised form is made too.
  void SetInput(const FloatRows& x, std::int64_t cols);

  using Output = MatrixProduct;
  // All that multiply one input.
  void Run(std::span<const Output> outputs);
  // gate = gelu(w_gate x) * (w_up x), which becomes the input of the products that follow.
  void RunGated(const Output& gate, const Output& up);

  // fn(index, worker) for each index, over the pool; the time it takes counts for `part`.
  template <typename Fn>
  void ForEach(CpuPart part, std::int64_t count, const Fn& fn) {
    const CpuPartTimer timer(times_, part);
    const auto range = [&fn, this](std::int64_t begin, std::int64_t end, int worker) {
      for (std::int64_t i = begin; i < end && !cancelled(); ++i) fn(i, worker);
    };
    // A reference fits std::function without an allocation.
    pool_->ParallelFor(count, 1, std::cref(range));
  }

 private:
  void Rows(const Output& output, std::int64_t first_row, std::int64_t last_row, int worker);
  std::int64_t BlockRows(std::int64_t rows) const;
  void Note(absl::Status status);

  ThreadPool* pool_;
  ProductUnit* const unit_;
  CpuPartTimes* const times_;
  CpuScratch* scratch_;
  ActivationType activations_ = ActivationType::kFloat32;
  const std::atomic<bool>* cancelled_ = nullptr;
  FloatRows input_;
  QuantizedRows quantized_;
  // Which of the scratch memory's quants that is.
  int quants_ = 0;
  // Written between, not during, what the pool does.
  bool failed_ = false;
  absl::Status result_;
};

}  // namespace tandem
