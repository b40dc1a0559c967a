#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/device/cpu/synced_memory.h"
#include "lib/device/device.h"
#include "lib/weights/region.h"

namespace tandem {

// What the CPU device counts, from any thread.
struct CpuCounters {
  std::atomic<std::uint64_t> allocations{0};
  std::atomic<std::uint64_t> submissions{0};
};

// Zeroed memory, aligned to a cache line and counted. Grows only; what it held is then lost.
class CpuBuffer {
 public:
  CpuBuffer() = default;
  CpuBuffer(CpuBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  CpuBuffer& operator=(CpuBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;
  ~CpuBuffer();

  // RESOURCE_EXHAUSTED when the machine has no such memory; the buffer is then empty.
  absl::Status Reserve(std::size_t bytes, CpuCounters* counters);
  std::size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class CpuWeights final : public Weights {
 public:
  CpuWeights(std::shared_ptr<const Region> region, std::string_view import_kind)
      : region_(std::move(region)), import_kind_(import_kind) {}
  const RegionManifest& manifest() const override { return region_->manifest(); }
  std::string_view import_kind() const override { return import_kind_; }
  const Region& region() const { return *region_; }

 private:
  std::shared_ptr<const Region> region_;
  std::string_view import_kind_;
};

// Keys, then values, of every layer; each blocks of lib/model/kv_layout.h.
class CpuKvCache final : public KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<CpuKvCache>> Make(const ModelConfig& config,
                                                          const KvCacheSpec& spec,
                                                          CpuCounters* counters);
  const KvCacheSpec& spec() const override { return spec_; }
  std::uint64_t bytes() const override { return memory_.bytes(); }
  absl::Status Export(const KvBlocks& blocks, std::span<std::byte> to) override;
  absl::Status Import(const KvBlocks& blocks, std::span<const std::byte> from) override;

  struct Layer {
    std::byte* keys = nullptr;
    std::byte* values = nullptr;
  };
  // Of a model layer that the specification names.
  Layer layer(std::int32_t layer) const;

 private:
  CpuKvCache(const ModelConfig& config, const KvCacheSpec& spec)
      : spec_(spec), form_(config, spec) {}
  // fn(a block's place) for each, in the order of the written form.
  template <typename Fn>
  void ForEachBlock(const KvBlocks& blocks, const Fn& fn) const;

  KvCacheSpec spec_;
  KvBlockForm form_;
  std::vector<Layer> layers_;  // as spec_.layers
  CpuBuffer memory_;
};

// Memory of our own, pages that several processes share, or memory of another device's driver.
class CpuResidual final : public ResidualBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<CpuResidual>> Make(const ResidualLayout& layout,
                                                           CpuCounters* counters);
  // `fd` is a sealed memfd or a dma-buf, as `kind` says.
  static absl::StatusOr<std::unique_ptr<CpuResidual>> Import(const ResidualLayout& layout,
                                                             MemoryKind kind, UniqueFd fd);
  // A dma-buf of new pages, in *fd. UNIMPLEMENTED where the system makes none of this size.
  static absl::StatusOr<std::unique_ptr<CpuResidual>> Export(const ResidualLayout& layout,
                                                             CpuCounters* counters, UniqueFd* fd);
  // INVALID_ARGUMENT: the memory is smaller than the layout.
  static absl::StatusOr<std::unique_ptr<CpuResidual>> Over(const ResidualLayout& layout,
                                                           std::unique_ptr<SyncedMemory> memory);
  const ResidualLayout& layout() const override { return layout_; }
  std::span<std::byte> host_view() const override { return {base_, layout_.total_bytes()}; }
  // The first floats of a slot: before a stage reads them, and once it has written them. Nothing to
  // do where all see the same bytes.
  absl::Status Fetch(std::int32_t slot, std::size_t floats) const;
  absl::Status Flush(std::int32_t slot, std::size_t floats) const;
  float* slot(std::int32_t slot) const { return reinterpret_cast<float*>(base_ + OffsetOf(slot)); }

 private:
  explicit CpuResidual(const ResidualLayout& layout) : layout_(layout) {}
  std::uint64_t OffsetOf(std::int32_t slot) const {
    return layout_.slot_bytes * static_cast<std::uint64_t>(slot);
  }
  ResidualLayout layout_;
  std::byte* base_ = nullptr;
  CpuBuffer memory_;
  SharedMemory shared_;
  std::unique_ptr<SyncedMemory> synced_;
};

}  // namespace tandem
