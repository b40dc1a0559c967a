#include "gpu-worker/stage/tuning.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kAmd = 0x1002;
constexpr std::uint32_t kNvidia = 0x10de;

constexpr std::uint32_t Bit(ChainPlace place) { return static_cast<std::uint32_t>(place); }

constexpr Tuning kRows[] = {
    {.name = "software",
     .software = true,
     .measured = true,
     .norm_lanes = 32,
     .attention_parts = 1,
     .attention_groups = 1,
     .matvec_bf16 = {.group = 32, .fill = 64, .shared = 0},
     .matvec_packed = {.group = 32, .fill = 64},
     // Few: compiling takes longer than running otherwise.
     .dot = {.threads = 32, .lanes = 1, .loads = 1, .tokens = 1},
     .dot_geglu = {.lanes = 4, .loads = 1},
     // Dispatches cost next to nothing, and the kernels that do more take 8 lanes a row.
     .fuse_geglu = false,
     .fuse_post_norm = false,
     .dot_post_norm = {.threads = 32, .lanes = 8, .loads = 1},
     .decode = {.threads = 16, .unroll = 1, .groups = 8},
     .chain = {.per_core = 3, .threads = 32, .end_threads = 32},
     .matmat_fill = 2,
     .flops_per_second = 2e10,
     .bytes_per_second = 1e10},
    // Measured on an H200.
    {.name = "nvidia",
     .vendor_id = kNvidia,
     .measured = true,
     .norm_lanes = 512,
     .attention_parts = 8,
     .attention_fill = 1u << 17,
     .attention_groups = 64,
     .matvec_bf16 = {.group = 32, .fill = 1u << 17, .shared = 0},
     .matvec_packed = {.group = 128, .fill = 1u << 16, .shared = 24576},
     .dot = {.threads = 32, .lanes = 16, .loads = 3},
     .dot_geglu = {.lanes = 8, .loads = 3},
     // The last workgroup takes longer than one more dispatch.
     .fuse_post_norm = false,
     .decode = {.threads = 256, .unroll = 4, .groups = 128, .core_threads = 512},
     .stream = {.per_core = 1},
     // Gate and up of 16 tokens in int8: shared memory that is set up for the product in front has
     // room for fewer of its workgroups than there are.
     .chain = {.hold = false,
               .cumulative = true,
               .barriers = {0, 0, 0, 0, Bit(ChainPlace::kGateUpInt8)}},
     .matmat_fill = 264,
     // Larger ones run at a third of its rate.
     .tiles_tokens = 16,
     .look_us = 200,
     .flops_per_second = 5e12,
     .bytes_per_second = 5e11},
    {.name = "amd",
     .vendor_id = kAmd,
     .norm_lanes = 512,
     .matvec_bf16 = {.group = 64, .fill = 1u << 14, .shared = 0},
     .matvec_packed = {.group = 128, .fill = 1u << 14},
     .lean_attention = true},
    {.name = "generic"},
};

// Registers for the results of a lane: rows times tokens.
constexpr std::uint32_t kMostSums = 16;
constexpr std::uint32_t kMostLanes = 32;
// Registers for the results of a lane of attention.
constexpr std::uint32_t kMostSharedHeads = 4;

const Tuning& RowFor(const vulkan::PhysicalDevice& device) {
  const bool software = device.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
  for (const Tuning& row : kRows) {
    if (row.software && !software) continue;
    if (row.vendor_id != 0 && row.vendor_id != device.vendor_id) continue;
    return row;
  }
  return kRows[std::size(kRows) - 1];
}

}  // namespace

std::string TilesTuning::Name(std::string_view format) const {
  return Cat("tiles_", format, "_", row_tiles, "x", token_tiles, "_", row_subgroups, "x",
             token_subgroups);
}

void CutTuning(const vulkan::PhysicalDevice& device, Tuning* cut) {
  Tuning& tuning = *cut;
  const std::uint32_t most = std::bit_floor(device.limits.maxComputeWorkGroupInvocations);
  tuning.norm_lanes = std::min(tuning.norm_lanes, most);
  tuning.attention_parts = std::min(tuning.attention_parts, most / kAttentionLanes);
  tuning.attention_shared = device.limits.maxComputeSharedMemorySize;
  for (MatvecTuning* matvec : {&tuning.matvec_bf16, &tuning.matvec_packed}) {
    matvec->group = std::min(matvec->group, most);
    matvec->shared = std::min(matvec->shared, device.limits.maxComputeSharedMemorySize);
  }
  for (std::uint32_t* threads :
       {&tuning.dot.threads, &tuning.dot_post_norm.threads, &tuning.decode.threads,
        &tuning.stream.threads, &tuning.chain.threads, &tuning.chain.end_threads}) {
    *threads = std::min(*threads, most);
  }
  // 32 rows a workgroup.
  tuning.dot_geglu.lanes = std::min(tuning.dot_geglu.lanes, most / 32);
}

Tuning TuningFor(const vulkan::PhysicalDevice& device) {
  Tuning tuning = RowFor(device);
  CutTuning(device, &tuning);
  return tuning;
}

std::uint32_t AttentionSharedBytes(const AttentionShape& shape) {
  const std::uint32_t lanes = shape.parts * kAttentionLanes;
  // Of every head: the query, a sum, a score, a weight and a total a lane, and what parts agree on.
  const std::uint32_t of_head = 64 * 16 + lanes * (16 + 3 * 4) + shape.parts * (8 + 1) * 4;
  return shape.shared_heads * of_head + lanes * 4;
}

AttentionShape ChooseAttentionShape(const Tuning& tuning, std::uint32_t heads,
                                    std::uint32_t kv_heads, std::uint32_t rows) {
  AttentionShape shape;
  const auto groups = [&] { return std::uint64_t{heads} * rows / shape.shared_heads; };
  while (shape.shared_heads < kMostSharedHeads &&
         heads / kv_heads % (2 * shape.shared_heads) == 0 &&
         groups() / 2 >= tuning.attention_groups) {
    shape.shared_heads *= 2;
  }
  while (shape.shared_heads > 1 && AttentionSharedBytes(shape) > tuning.attention_shared) {
    shape.shared_heads /= 2;
  }
  while (2 * shape.parts <= tuning.attention_parts &&
         groups() * 2 * shape.parts * kAttentionLanes <= tuning.attention_fill &&
         AttentionSharedBytes({2 * shape.parts, shape.shared_heads}) <= tuning.attention_shared) {
    shape.parts *= 2;
  }
  return shape;
}

std::uint32_t MatvecSharedBytes(const MatvecShape& shape, std::uint32_t block_vecs) {
  const std::uint32_t partial = shape.rows * shape.tokens * shape.group * 4;
  return partial + shape.tokens * shape.tile_blocks * (block_vecs + 1) * 16;
}

MatvecShape ChooseMatvecShape(const MatvecTuning& tuning, std::uint32_t rows, std::uint32_t blocks,
                              std::uint32_t block_vecs, std::uint32_t tokens) {
  MatvecShape shape{tuning.group, tuning.lanes, tuning.rows, tokens, 0};
  while (shape.rows > 1 && shape.rows * tokens > kMostSums) shape.rows /= 2;
  const auto running = [&] { return std::uint64_t{rows} * shape.lanes / shape.rows; };
  while (shape.rows > 1 && running() < tuning.fill) shape.rows /= 2;
  while (shape.lanes < std::min(shape.group, kMostLanes) && running() < tuning.fill) {
    shape.lanes *= 2;
  }
  if (tuning.shared == 0) return shape;
  // As many columns at once as shared memory holds; a smaller workgroup where not even one round
  // fits.
  const auto fits = [&] { return MatvecSharedBytes(shape, block_vecs) <= tuning.shared; };
  shape.tile_blocks = shape.lanes;
  while (!fits() && shape.lanes > 8) shape.tile_blocks = shape.lanes /= 2;
  while (!fits() && shape.group > shape.lanes) shape.group /= 2;
  while (fits() && shape.tile_blocks < blocks) shape.tile_blocks += shape.lanes;
  if (!fits()) shape.tile_blocks -= shape.lanes;
  TANDEM_CHECK(fits() && shape.tile_blocks > 0);
  return shape;
}

}  // namespace tandem
