#pragma once

#include <cstdint>
#include <vector>

namespace tandem {

// Ids of the physical KV blocks of one group, [0, size). Only ids: the bytes are a worker's. Room
// is reserved before blocks are taken, so that Take never fails for whoever holds a reservation of
// at least as many blocks as it has taken. Not thread-safe.
class BlockPool {
 public:
  explicit BlockPool(std::int32_t size);

  std::int32_t size() const { return size_; }
  std::int32_t unreserved() const { return size_ - reserved_; }
  std::int32_t taken() const { return size_ - static_cast<std::int32_t>(free_.size()); }

  // False, and nothing changes, when fewer than `blocks` are unreserved.
  bool Reserve(std::int32_t blocks);
  void Unreserve(std::int32_t blocks);
  std::int32_t Take();
  void Give(std::int32_t block);
  // Nothing reserved, nothing taken.
  void Clear();

 private:
  std::int32_t size_;
  std::int32_t reserved_ = 0;
  // The last one is taken next.
  std::vector<std::int32_t> free_;
  std::vector<bool> is_free_;
};

}  // namespace tandem
