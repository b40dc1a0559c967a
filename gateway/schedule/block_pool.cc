#include "gateway/schedule/block_pool.h"

#include "lib/base/status_macros.h"

namespace tandem {

BlockPool::BlockPool(std::int32_t size) : size_(size) {
  TANDEM_CHECK(size >= 0);
  Clear();
}

bool BlockPool::Reserve(std::int32_t blocks) {
  TANDEM_CHECK(blocks >= 0);
  if (blocks > unreserved()) return false;
  reserved_ += blocks;
  return true;
}

void BlockPool::Unreserve(std::int32_t blocks) {
  TANDEM_CHECK(blocks >= 0 && blocks <= reserved_);
  reserved_ -= blocks;
}

std::int32_t BlockPool::Take() {
  TANDEM_CHECK(!free_.empty());
  const std::int32_t block = free_.back();
  free_.pop_back();
  is_free_[static_cast<std::size_t>(block)] = false;
  return block;
}

void BlockPool::Give(std::int32_t block) {
  TANDEM_CHECK(block >= 0 && block < size_ && !is_free_[static_cast<std::size_t>(block)]);
  is_free_[static_cast<std::size_t>(block)] = true;
  free_.push_back(block);
}

void BlockPool::Clear() {
  reserved_ = 0;
  free_.clear();
  for (std::int32_t block = size_ - 1; block >= 0; --block) free_.push_back(block);
  is_free_.assign(static_cast<std::size_t>(size_), true);
}

}  // namespace tandem
