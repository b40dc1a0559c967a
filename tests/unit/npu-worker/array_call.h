#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/fake_amdxdna/array_model.h"

namespace tandem::npu {

// The buffers of one call of a design, and the call on the model of the array.
class ArrayCall {
 public:
  explicit ArrayCall(const std::vector<std::uint64_t>& sizes) : sizes_(sizes) {
    for (const std::uint64_t size : sizes) {
      buffers_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(64, (size + 63) / 64 * 64)),
                            std::free);
      // What nobody writes is no number.
      std::memset(buffers_.back().get(), 0xff, size);
    }
  }
  std::span<std::byte> buffer(std::size_t i) { return {buffers_[i].get(), sizes_[i]}; }

  // An empty text, or what went wrong.
  std::string Run(const ArrayShape& array, std::unique_ptr<ArrayDesign> design,
                  const std::vector<std::uint32_t>& words) {
    // Device addresses above 4 GiB, so that both halves of an address count.
    constexpr std::uint64_t kStep = std::uint64_t{1} << 33;
    std::vector<std::uint64_t> addresses;
    for (std::size_t i = 0; i < sizes_.size(); ++i) addresses.push_back((i + 1) * kStep);
    ArrayModel model(array, std::move(design));
    return model.Run(
        words, addresses, [&](std::uint64_t address, std::uint64_t bytes) -> std::byte* {
          const std::uint64_t i = address / kStep - 1;
          const std::uint64_t offset = address % kStep;
          return i < sizes_.size() && offset + bytes <= sizes_[i] ? buffers_[i].get() + offset
                                                                  : nullptr;
        });
  }

 private:
  std::vector<std::uint64_t> sizes_;
  std::vector<std::unique_ptr<std::byte, void (*)(void*)>> buffers_;
};

}  // namespace tandem::npu
