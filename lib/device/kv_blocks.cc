#include "lib/device/kv_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/device.h"
#include "lib/model/kv_layout.h"

namespace tandem {
namespace {

// The blocks begin behind a page of their own.
constexpr std::size_t kHeaderBytes = 4096;
constexpr std::uint32_t kMagic = 0x42564B54;  // "TKVB"
constexpr std::uint32_t kVersion = 1;

struct Field {
  std::string_view name;
  std::uint32_t value = 0;
};
constexpr std::size_t kFields = 8;
constexpr std::size_t kMostLayers = kHeaderBytes / 4 - kFields;

std::array<Field, kFields> FieldsOf(const KvBlockForm& form, const KvCacheSpec& spec,
                                    const KvBlocks& blocks) {
  return {{{"mark", kMagic},
           {"version", kVersion},
           {"bytes of an element", static_cast<std::uint32_t>(KvElementBytes(spec.type))},
           {"KV heads", static_cast<std::uint32_t>(form.kv_heads)},
           {"head_dim", static_cast<std::uint32_t>(form.head_dim)},
           {"global blocks", static_cast<std::uint32_t>(blocks.global_blocks.size())},
           {"window blocks", static_cast<std::uint32_t>(blocks.window_blocks.size())},
           {"layers", static_cast<std::uint32_t>(spec.layers.size())}}};
}

absl::Status CheckLayers(const KvCacheSpec& spec) {
  if (spec.layers.size() <= kMostLayers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("KV blocks: expected at most ", kMostLayers, " layers, found ", spec.layers.size()));
}

}  // namespace

KvBlockForm::KvBlockForm(const ModelConfig& config, const KvCacheSpec& spec)
    : kv_heads(config.num_kv_heads), head_dim(config.head_dim) {
  block_bytes = KvBlockBytes(kv_heads, head_dim, spec.type);
  for (const std::int32_t layer : spec.layers)
    global.push_back(config.layer_is_global[static_cast<std::size_t>(layer)]);
}

std::uint64_t KvBlockForm::Bytes(const KvBlocks& blocks) const {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < global.size(); ++i) count += BlocksOf(blocks, i).size();
  return 2 * block_bytes * count;
}

absl::Status KvBlockForm::Validate(const KvCacheSpec& spec, const KvBlocks& blocks,
                                   std::uint64_t bytes) const {
  const auto check = [](std::string_view group, std::span<const std::int32_t> named,
                        std::int32_t count) {
    for (const std::int32_t block : named) {
      if (block < 0 || block >= count) {
        return absl::InvalidArgumentError(
            Cat("KV blocks: ", group, ": expected 0 to ", count - 1, ", found ", block));
      }
    }
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(check("global", blocks.global_blocks, spec.global_blocks));
  TANDEM_RETURN_IF_ERROR(check("window", blocks.window_blocks, spec.window_blocks));
  if (bytes == Bytes(blocks)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("KV blocks: expected memory of ", Bytes(blocks), " bytes, found ", bytes));
}

absl::StatusOr<SharedMemory> ShareKvBlocks(const ModelConfig& config, KvCache* cache,
                                           const KvBlocks& blocks) {
  const KvCacheSpec& spec = cache->spec();
  TANDEM_RETURN_IF_ERROR(CheckLayers(spec));
  const KvBlockForm form(config, spec);
  const std::uint64_t bytes = form.Bytes(blocks);
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          SharedMemory::Create("tandem-kv-blocks", kHeaderBytes + bytes));
  TANDEM_RETURN_IF_ERROR(SealSize(memory.fd.get()));
  std::byte* const data = memory.mapping.data();
  std::size_t at = 0;
  for (const Field& field : FieldsOf(form, spec, blocks)) {
    std::memcpy(data + at, &field.value, sizeof(field.value));
    at += sizeof(field.value);
  }
  if (!spec.layers.empty())
    std::memcpy(data + at, spec.layers.data(), spec.layers.size() * sizeof(std::int32_t));
  TANDEM_RETURN_IF_ERROR(cache->Export(blocks, {data + kHeaderBytes, bytes}));
  return memory;
}

absl::Status TakeKvBlocks(const ModelConfig& config, KvCache* cache, const KvBlocks& blocks,
                          UniqueFd fd) {
  const KvCacheSpec& spec = cache->spec();
  TANDEM_RETURN_IF_ERROR(CheckLayers(spec));
  const KvBlockForm form(config, spec);
  const std::uint64_t bytes = form.Bytes(blocks);
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          SharedMemory::Take(std::move(fd), kHeaderBytes + bytes));
  TANDEM_ASSIGN_OR_RETURN(const Mapping mapping,
                          Mapping::Map(memory.fd.get(), kHeaderBytes + bytes, /*writable=*/false));
  const std::byte* const data = mapping.data();
  std::size_t at = 0;
  for (const Field& field : FieldsOf(form, spec, blocks)) {
    std::uint32_t found = 0;
    std::memcpy(&found, data + at, sizeof(found));
    at += sizeof(found);
    if (found != field.value) {
      return absl::InvalidArgumentError(
          Cat("KV blocks: ", field.name, ": expected ", field.value, ", found ", found));
    }
  }
  for (const std::int32_t layer : spec.layers) {
    std::int32_t found = 0;
    std::memcpy(&found, data + at, sizeof(found));
    at += sizeof(found);
    if (found != layer) {
      return absl::InvalidArgumentError(
          Cat("KV blocks: expected layer ", layer, ", found ", found));
    }
  }
  return cache->Import(blocks, {data + kHeaderBytes, bytes});
}

}  // namespace tandem
