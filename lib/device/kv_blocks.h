#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/model/config.h"

namespace tandem {

class KvCache;
struct KvCacheSpec;

// Physical blocks of a cache, of its global layers and of its sliding-window layers.
struct KvBlocks {
  std::span<const std::int32_t> global_blocks;
  std::span<const std::int32_t> window_blocks;
};

// The one written form of blocks, in which a device hands them to another: for each layer of the
// cache, in its order, the keys and then the values; of each, the blocks in the order in which they
// are named; a block is what lib/model/kv_layout.h says of the cache's type, little endian.
struct KvBlockForm {
  // Of a specification that ValidateKvCacheSpec accepted.
  KvBlockForm(const ModelConfig& config, const KvCacheSpec& spec);

  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  // The keys (or the values) of one block of one layer.
  std::uint64_t block_bytes = 0;
  // As the cache's layers.
  std::vector<bool> global;

  std::uint64_t Bytes(const KvBlocks& blocks) const;
  std::span<const std::int32_t> BlocksOf(const KvBlocks& blocks, std::size_t layer_index) const {
    return global[layer_index] ? blocks.global_blocks : blocks.window_blocks;
  }
  // What KvCache::Export and Import check first. INVALID_ARGUMENT: a block that the cache does not
  // have, memory of another size.
  absl::Status Validate(const KvCacheSpec& spec, const KvBlocks& blocks, std::uint64_t bytes) const;
};

// Blocks for another process: a sealed memfd with a page that says what they are, and the blocks
// behind it.
absl::StatusOr<SharedMemory> ShareKvBlocks(const ModelConfig& config, KvCache* cache,
                                           const KvBlocks& blocks);
// Copies what another process shared into `blocks` of this cache. INVALID_ARGUMENT: the memory is
// not sealed, holds blocks of another type, shape or number, or of other layers.
absl::Status TakeKvBlocks(const ModelConfig& config, KvCache* cache, const KvBlocks& blocks,
                          UniqueFd fd);

}  // namespace tandem
