#include "lib/device/cpu/cpu_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/base/dma_buf.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/validate.h"

namespace tandem {
namespace {

constexpr std::size_t kCacheLine = 64;

absl::Status CheckLayout(const ResidualLayout& layout) {
  if (layout.slots < 1 || layout.max_tokens < 1 || layout.columns < 1) {
    return absl::InvalidArgumentError(absl::StrCat("residual: expected a positive shape, found ",
                                                   layout.slots, " slots of ", layout.max_tokens,
                                                   " x ", layout.columns));
  }
  const ResidualLayout expected =
      MakeResidualLayout(layout.slots, layout.max_tokens, layout.columns);
  if (layout.slot_bytes < expected.slot_bytes || layout.slot_bytes % PageSize() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("residual: expected slots of whole pages and at least ", expected.slot_bytes,
                     " bytes, found ", layout.slot_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

CpuBuffer::~CpuBuffer() { std::free(data_); }

absl::Status CpuBuffer::Reserve(std::size_t bytes, CpuCounters* counters) {
  if (bytes <= bytes_) return absl::OkStatus();
  std::free(std::exchange(data_, nullptr));
  bytes_ = 0;
  const std::size_t rounded = RoundUp(bytes, kCacheLine);
  data_ = std::aligned_alloc(kCacheLine, rounded);
  if (data_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("CPU device: cannot allocate ", rounded, " bytes"));
  }
  std::memset(data_, 0, rounded);
  bytes_ = rounded;
  counters->allocations.fetch_add(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CpuKvCache>> CpuKvCache::Make(const ModelConfig& config,
                                                             const KvCacheSpec& spec,
                                                             CpuCounters* counters) {
  TANDEM_RETURN_IF_ERROR(ValidateKvCacheSpec(config, spec));
  auto cache = std::unique_ptr<CpuKvCache>(new CpuKvCache(config, spec));
  std::vector<std::uint64_t> plane_bytes;
  std::uint64_t total = 0;
  for (const std::int32_t layer : spec.layers) {
    plane_bytes.push_back(RoundUp(KvPlaneBytes(config, spec, layer), kCacheLine));
    total += 2 * plane_bytes.back();
  }
  TANDEM_RETURN_IF_ERROR(Annotate(cache->memory_.Reserve(total, counters), "KV cache"));
  auto* at = cache->memory_.as<std::byte>();
  for (const std::uint64_t bytes : plane_bytes) {
    cache->layers_.push_back({at, at + bytes});
    at += 2 * bytes;
  }
  return cache;
}

template <typename Fn>
void CpuKvCache::ForEachBlock(const KvBlocks& blocks, const Fn& fn) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (std::byte* plane : {layers_[i].keys, layers_[i].values}) {
      for (const std::int32_t block : form_.BlocksOf(blocks, i))
        fn(plane + static_cast<std::uint64_t>(block) * form_.block_bytes);
    }
  }
}

absl::Status CpuKvCache::Export(const KvBlocks& blocks, std::span<std::byte> to) {
  TANDEM_RETURN_IF_ERROR(form_.Validate(spec_, blocks, to.size()));
  std::byte* at = to.data();
  ForEachBlock(blocks, [&](const std::byte* block) {
    std::memcpy(at, block, form_.block_bytes);
    at += form_.block_bytes;
  });
  return absl::OkStatus();
}

absl::Status CpuKvCache::Import(const KvBlocks& blocks, std::span<const std::byte> from) {
  TANDEM_RETURN_IF_ERROR(form_.Validate(spec_, blocks, from.size()));
  const std::byte* at = from.data();
  ForEachBlock(blocks, [&](std::byte* block) {
    std::memcpy(block, at, form_.block_bytes);
    at += form_.block_bytes;
  });
  return absl::OkStatus();
}

CpuKvCache::Layer CpuKvCache::layer(std::int32_t layer) const {
  const auto found = std::find(spec_.layers.begin(), spec_.layers.end(), layer);
  TANDEM_CHECK(found != spec_.layers.end());
  return layers_[static_cast<std::size_t>(found - spec_.layers.begin())];
}

absl::StatusOr<std::unique_ptr<CpuResidual>> CpuResidual::Make(const ResidualLayout& layout,
                                                               CpuCounters* counters) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(layout));
  auto residual = std::unique_ptr<CpuResidual>(new CpuResidual(layout));
  TANDEM_RETURN_IF_ERROR(residual->memory_.Reserve(layout.total_bytes(), counters));
  residual->base_ = residual->memory_.as<std::byte>();
  return residual;
}

absl::StatusOr<std::unique_ptr<CpuResidual>> CpuResidual::Import(const ResidualLayout& layout,
                                                                 MemoryKind kind, UniqueFd fd) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(layout));
  auto residual = std::unique_ptr<CpuResidual>(new CpuResidual(layout));
  absl::StatusOr<SharedMemory> memory = SharedMemory::Take(std::move(fd), layout.total_bytes());
  if (!memory.ok()) return Annotate(memory.status(), "residual");
  if (memory->kind != kind) {
    return absl::InvalidArgumentError(absl::StrCat("residual: expected a ",
                                                   AbslView(MemoryKindName(kind)), ", found a ",
                                                   AbslView(MemoryKindName(memory->kind))));
  }
  residual->shared_ = *std::move(memory);
  TANDEM_RETURN_IF_ERROR(Annotate(residual->shared_.Map(/*writable=*/true), "residual"));
  residual->shared_.fd.Reset();
  residual->base_ = residual->shared_.mapping.data();
  return residual;
}

absl::StatusOr<std::unique_ptr<CpuResidual>> CpuResidual::Export(const ResidualLayout& layout,
                                                                 CpuCounters* counters,
                                                                 UniqueFd* fd) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(layout));
  auto residual = std::unique_ptr<CpuResidual>(new CpuResidual(layout));
  TANDEM_ASSIGN_OR_RETURN(residual->shared_,
                          AllocateDmaBuf("tandem-residual", layout.total_bytes()));
  counters->allocations.fetch_add(1, std::memory_order_relaxed);
  *fd = std::move(residual->shared_.fd);
  residual->base_ = residual->shared_.mapping.data();
  return residual;
}

absl::StatusOr<std::unique_ptr<CpuResidual>> CpuResidual::Over(
    const ResidualLayout& layout, std::unique_ptr<SyncedMemory> memory) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(layout));
  if (memory->bytes().size() < layout.total_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("residual: expected memory of ",
                                                   layout.total_bytes(), " bytes, found ",
                                                   memory->bytes().size()));
  }
  auto residual = std::unique_ptr<CpuResidual>(new CpuResidual(layout));
  residual->base_ = memory->bytes().data();
  residual->synced_ = std::move(memory);
  return residual;
}

absl::Status CpuResidual::Fetch(std::int32_t slot, std::size_t floats) const {
  if (synced_ == nullptr) return absl::OkStatus();
  return synced_->Fetch(OffsetOf(slot), floats * sizeof(float));
}

absl::Status CpuResidual::Flush(std::int32_t slot, std::size_t floats) const {
  if (synced_ == nullptr) return absl::OkStatus();
  return synced_->Flush(OffsetOf(slot), floats * sizeof(float));
}

}  // namespace tandem
