#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/device/kv_blocks.h"
#include "lib/device/program.h"
#include "lib/device/stage.h"
#include "lib/memory/memory_declaration.h"
#include "lib/model/config.h"
#include "lib/model/device_report.h"
#include "lib/model/kinds.h"
#include "lib/weights/region.h"

namespace tandem {

// The one interface to compute devices: Vulkan (gpu-worker), XRT and CPU (npu-worker). What a
// device cannot do it refuses at Compile with UNIMPLEMENTED and the reason; it never does it
// elsewhere.

struct DeviceInfo {
  std::string kind;    // "vulkan", "cpu", "xrt"
  std::string name;    // as the driver calls it: "AMD Radeon 780M (RADV PHOENIX)", "CPU AVX3_DL x2"
  std::string driver;  // "llvmpipe Mesa 22.3.6"
  std::uint64_t memory_bytes = 0;
  bool unified_memory = false;  // weights are used where the loader put them
};

// What a worker may take of memory now, all told.
struct MemoryBudget {
  std::uint64_t bytes = 0;
  // Memory of the device's own: uploaded weights come out of it too. Else it is the machine's, and
  // a bounded share of what is available there.
  bool own = false;
};
// A quarter of what the machine says is available, at most 16 GiB.
MemoryBudget ShareOfMachineMemory();

// What two stages hand over, the residual stream or what a cut attention half makes: a ring of
// slots, slot s at s * slot_bytes, each with room for (max_tokens, columns) float32. Rows are
// contiguous and as wide as the stages' (InputColumns, OutputColumns), at most `columns`.
struct ResidualLayout {
  std::int32_t slots = 1;
  std::int32_t max_tokens = 0;
  std::int32_t columns = 0;
  std::uint64_t slot_bytes = 0;  // a multiple of the page size
  std::uint64_t total_bytes() const { return slot_bytes * static_cast<std::uint64_t>(slots); }
  bool operator==(const ResidualLayout&) const = default;
};
ResidualLayout MakeResidualLayout(std::int32_t slots, std::int32_t max_tokens,
                                  std::int32_t columns);

class ResidualBuffer {
 public:
  virtual ~ResidualBuffer() = default;
  virtual const ResidualLayout& layout() const = 0;
  // The ring as the processor sees it; empty where the device has no such view.
  virtual std::span<std::byte> host_view() const { return {}; }
};

// One region of weights in the form the device computes from.
class Weights {
 public:
  virtual ~Weights() = default;
  virtual const RegionManifest& manifest() const = 0;
  // How the device came to them, as status shows it: "mapped", "dma-buf" and "host-pointer" are the
  // loader's own pages; "upload ..." is a copy and says why.
  virtual std::string_view import_kind() const = 0;
};

// Paged keys and values of all attention layers of one worker. Two groups of blocks: global layers
// and sliding-window layers.
struct KvCacheSpec {
  std::vector<std::int32_t> layers;  // model layer numbers, ascending
  std::int32_t global_blocks = 0;  // physical blocks of kKvBlockTokens tokens, in each global layer
  std::int32_t window_blocks = 0;  // in each sliding-window layer
  KvType type = KvType::kFloat32;
};
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheSpec& spec() const = 0;
  virtual std::uint64_t bytes() const = 0;
  // Copies blocks out of and into the cache, in their written form (KvBlockForm). INVALID_ARGUMENT:
  // a block that is not there, memory of another size. From the thread that calls the program, with
  // nothing under way that uses these blocks.
  virtual absl::Status Export(const KvBlocks& blocks, std::span<std::byte> to) = 0;
  virtual absl::Status Import(const KvBlocks& blocks, std::span<const std::byte> from) = 0;
};

// Counters for tests and metrics: what must stay unchanged in steady state.
struct DeviceCounters {
  std::uint64_t allocations = 0;  // device memory
  std::uint64_t descriptor_writes = 0;
  std::uint64_t command_recordings = 0;
  std::uint64_t submissions = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual DeviceCounters counters() const = 0;
  // What more there is to say of it, for people. Any thread.
  virtual DeviceReport Report() const { return {}; }
  // What it imports and exports; it stays the same while the device lives.
  virtual const MemoryDeclaration& memory() const = 0;
  // Any thread.
  virtual MemoryBudget memory_budget() const { return ShareOfMachineMemory(); }
  // CreateKvCache may be called while Import runs.
  virtual absl::StatusOr<std::shared_ptr<const Weights>> Import(
      std::shared_ptr<const Region> region, const ModelConfig& config) = 0;
  virtual absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig& config,
                                                                 const KvCacheSpec& spec) = 0;

  // Memory of the device's own, for stages on the same worker.
  virtual absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(
      const ResidualLayout& layout) = 0;
  // Uses memory that another process (or the system) allocated: layout.total_bytes() from the start
  // of `fd`, a sealed memfd for kHostPointer, a dma-buf for kDmaBuf. UNIMPLEMENTED when the device
  // does not import this kind, INVALID_ARGUMENT when `fd` is not of this kind or size; nothing is
  // copied ever.
  virtual absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(
      HandleKind kind, UniqueFd fd, const ResidualLayout& layout) = 0;
  // Allocates memory of the device's own that another process can import, for kinds that it exports
  // itself; the descriptor goes to *fd. Only kDmaBuf is asked for: for kHostPointer the edge makes
  // the memfd.
  virtual absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(
      HandleKind kind, const ResidualLayout& layout, UniqueFd* fd) = 0;

  // Compiles all stages of a worker. INVALID_ARGUMENT where the spec does not fit the model or its
  // bindings are incomplete, UNIMPLEMENTED for what the device cannot do.
  virtual absl::StatusOr<std::unique_ptr<Program>> Compile(const ModelConfig& config,
                                                           const ProgramSpec& spec) = 0;

  // A real small dispatch with a checked result: what readiness means.
  virtual absl::Status Probe() = 0;
};

}  // namespace tandem
