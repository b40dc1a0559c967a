#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "npu-worker/kernels/tile_shape.h"
#include "npu-worker/product/transaction.h"

namespace tandem::npu {

// A sentence of the model's about a place of the array.
std::string At(const char* what, std::uint32_t column, std::uint32_t value);

// The streams between the shims' DMAs and the array. Texts are errors, empty where there is none.
class ArrayStreams {
 public:
  virtual ~ArrayStreams() = default;
  // Bytes that the transfers started on a channel have yet to move.
  virtual std::uint64_t Left(std::uint32_t column, Direction direction,
                             std::uint32_t channel) const = 0;
  // At most what is left.
  virtual std::string Take(std::uint32_t column, std::uint32_t channel, std::byte* to,
                           std::uint64_t bytes) = 0;
  virtual std::string Put(std::uint32_t column, std::uint32_t channel, const std::byte* from,
                          std::uint64_t bytes) = 0;
};

// What an array does that is configured with one design.
class ArrayDesign {
 public:
  virtual ~ArrayDesign() = default;
  // An instruction's write into a core's memory.
  virtual std::string WriteCore(std::uint32_t column, std::uint32_t row, std::uint32_t offset,
                                std::uint32_t value) = 0;
  // Goes on as far as inputs and room for outputs reach.
  virtual std::string Advance(ArrayStreams* streams) = 0;
  // What of a call is left over when its instructions have ended: it would meet the next call's.
  virtual std::string Idle() const = 0;
};

// designs/product.py; its run-time parameter lies behind a core's stack.
inline constexpr std::uint32_t kModelParameterAddress = kCoreStackBytes;
std::unique_ptr<ArrayDesign> ProductDesign(const ArrayShape& array, bool int4);
// designs/attention.py
std::unique_ptr<ArrayDesign> AttentionDesign(const ArrayShape& array);
// designs/rows.py
std::unique_ptr<ArrayDesign> RowsDesign(const ArrayShape& array);

// A core's data memory, from which a design's buffers are laid one behind the other, behind the
// stack.
class CoreMemory {
 public:
  CoreMemory();
  std::byte* Lay(std::uint32_t bytes);

 private:
  std::unique_ptr<std::byte[], void (*)(void*)> bytes_;
  std::uint32_t used_ = kCoreStackBytes;
};

}  // namespace tandem::npu
