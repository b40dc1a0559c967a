#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "gpu-worker/vulkan/physical_device.h"

namespace tandem {

// How the mat-vec kernel is shaped.
struct MatvecTuning {
  std::uint32_t group = 64;  // invocations of a workgroup
  std::uint32_t lanes = 8;   // that share a row, where there are rows enough
  std::uint32_t rows = 4;    // that a lane takes at once, where there are rows enough
  // invocations that fill the device: fewer rows a lane, then more lanes a row, until so many run
  std::uint32_t fill = 8192;
  // bytes of shared memory of a workgroup; 0: the vectors are read where they are
  std::uint32_t shared = 16384;
};

// How the kernel with packed dot products is shaped.
struct DotTuning {
  std::uint32_t threads = 64;  // of a workgroup
  // that share a row; 1: a kernel for that (dot_rows.comp), where the matrices suit it
  std::uint32_t lanes = 8;
  std::uint32_t loads = 3;   // groups of weights that a lane has in flight
  std::uint32_t tokens = 8;  // of a workgroup, at most
};

// How attention of steps of one token a sequence is shaped (decode_attention.h).
struct DecodeTuning {
  std::uint32_t threads = 128;  // of a workgroup
  std::uint32_t unroll = 2;     // keys that a lane has in flight
  // workgroups that fill the device: keys of a head are split until there are so many
  std::uint32_t groups = 64;
  // In steps of kManyDecodeTokens and more workgroups are as large as gives each core so many
  // invocations, from half to twice `threads`; 0: they are not.
  std::uint32_t core_threads = 0;
};

inline constexpr std::uint32_t kManyDecodeTokens = 8;

// How products of one token that end the half layer in front are shaped (stream.h).
struct StreamTuning {
  // workgroups of a core of the device; 0: they are not used
  std::uint32_t per_core = 0;
  std::uint32_t threads = 512;
  std::uint32_t blocks = 6;  // of weights, 16 bytes each, that a lane has of a row at most
};

// Dispatches of a layer in chained lists of a few tokens.
enum class ChainPlace : std::uint8_t {
  kOther = 0,
  kQkv = 1,
  kAttention = 2,
  kOutput = 4,
  kPostAttentionNorm = 8,
  kGateUp = 16,
  kDown = 32,
  kPostFfnNorm = 64,
  kGateUpInt8 = 128,  // gate and up in int8; kGateUp are others
};

// How lists of one token and of a few are chained (chain.h), where they are. What is not said to be
// of a few is of one token alone, but for `cumulative`, `polls` and `mute`.
struct ChainTuning {
  // As StreamTuning.
  std::uint32_t per_core = 1;
  std::uint32_t threads = 512;
  std::uint32_t blocks = 6;
  // of a workgroup of the products that end a half layer
  std::uint32_t end_threads = 512;
  // A lane's columns stay in registers, those of the products that end a half layer apart.
  bool hold = true;
  bool end_hold = true;
  // Rows are for all cores, not for as few as have no more each.
  bool spread = false;
  // The one invocation that counts a workgroup releases what the others wrote, too, as Vulkan has
  // it; else each releases its own.
  bool cumulative = false;
  // how often a workgroup looks whether it may go on, before it gives up: some 50 ms on an H200.
  // Under 65535, after which lavapipe ends any loop.
  std::uint32_t polls = 60000;
  // Of a few: steps of more tokens are not chained; at most kMostChainedTokens.
  std::uint32_t most_tokens = 32;
  // Of a few, by bucket, 1, 2, 4, ...: dispatches of a layer with a barrier in front all the same,
  // as bits (ChainPlace).
  std::array<std::uint32_t, 6> barriers = {};
  // For tests: the dispatch of a chain, counted from 1, that nobody is told of.
  std::uint32_t mute = 0;
};

// One of the matrix kernels (kernels/CMakeLists.txt), and how it is spread over the device.
struct MatrixTuning {
  std::uint32_t bucket = 0;  // the least that takes it
  std::uint32_t tokens = 0;
  std::uint32_t tiles = 0;      // of 16 rows, a subgroup
  std::uint32_t subgroups = 0;  // of a workgroup that have rows of their own
  std::uint32_t shares = 0;     // subgroups that share the columns of the same rows
  // As `subgroups`, of the kernels with GeGLU.
  std::uint32_t geglu_int8 = 0;
  std::uint32_t geglu_int4 = 0;
  // workgroups that fill the device: columns are shared out until there are so many
  std::uint32_t fill = 0;
  std::uint32_t max_parts = 0;
  constexpr std::uint32_t GegluSubgroups(std::string_view format) const {
    return format == "int4" ? geglu_int4 : geglu_int8;
  }
};
// Measured on an H200 (bench/kernels), ascending.
inline constexpr MatrixTuning kMatrixKernels[] = {{2, 8, 1, 1, 4, 1, 4, 1100, 3},
                                                  {16, 16, 2, 1, 4, 4, 4, 528, 3},
                                                  {32, 32, 2, 4, 1, 4, 4, 396, 9},
                                                  {64, 64, 2, 4, 1, 4, 4, 256, 6},
                                                  {128, 64, 2, 4, 1, 4, 4, 1008, 3}};

// One of the kernels of tiles.comp (kernels/CMakeLists.txt), and how it is spread over the device.
struct TilesTuning {
  // Matrices of 16 x 16 of a subgroup.
  std::uint32_t row_tiles = 0;
  std::uint32_t token_tiles = 0;
  // Of a workgroup.
  std::uint32_t row_subgroups = 0;
  std::uint32_t token_subgroups = 0;
  std::uint32_t fill = 0;  // as MatrixTuning
  std::uint32_t max_parts = 0;
  constexpr std::uint32_t rows() const { return 16 * row_tiles * row_subgroups; }
  constexpr std::uint32_t tokens() const { return 16 * token_tiles * token_subgroups; }
  std::string Name(std::string_view format) const;
};
// Ascending by tokens.
inline constexpr TilesTuning kTilesKernels[] = {
    {2, 1, 4, 1, 192, 3}, {2, 2, 4, 1, 128, 3}, {2, 4, 4, 1, 96, 3}, {2, 4, 2, 2, 96, 3}};
// Steps of fewer tokens take other kernels.
inline constexpr std::uint32_t kMinTilesTokens = 16;

// By how much packed dot products and matrix kernels are faster than plain arithmetic, carefully.
inline constexpr double kPackedSpeed = 8;

// How kernels are shaped for a kind of device, and how fast it roughly is. The first row that
// matches counts; the last matches all.
struct Tuning {
  std::string_view name;
  std::uint32_t vendor_id = 0;     // PCI vendor; 0: any
  bool software = false;           // a software rasteriser only
  bool measured = false;           // on such a device, so that a start need not
  std::uint32_t norm_lanes = 256;  // of a row; a power of two
  // that share the keys of a head in steps of few tokens, up to 8
  std::uint32_t attention_parts = 4;
  // invocations and workgroups that fill the device: fewer parts, and more query heads that share
  // their keys, until so many are left
  std::uint32_t attention_fill = 1u << 14;
  std::uint32_t attention_groups = 32;
  // bytes of shared memory of a workgroup
  std::uint32_t attention_shared = 16384;
  MatvecTuning matvec_bf16 = {.shared = 0};
  MatvecTuning matvec_packed = {};  // int8 and int4
  DotTuning dot = {};
  // gate and up with GeGLU: 32 rows a workgroup, so `threads` does not count
  DotTuning dot_geglu = {};
  // Gate and up make what GeGLU gives in one dispatch with it; for one token.
  bool fuse_geglu = true;
  // The products that end a half layer do its post-norm in their last workgroup; for one token.
  bool fuse_post_norm = true;
  // the products that end a half layer, for one token
  DotTuning dot_post_norm = {.threads = 256, .lanes = 16, .loads = 4};
  DecodeTuning decode = {};
  StreamTuning stream = {};
  ChainTuning chain = {};
  // workgroups that fill the device: smaller tiles until there are so many
  std::uint32_t matmat_fill = 64;
  // Matrix kernels are used where the device has matrices.
  bool matrices = true;
  // Attention with matrices takes kernels of few registers, which there are for heads of 128.
  bool lean_attention = false;
  // Of the largest kernel of tiles.comp that is used.
  std::uint32_t tiles_tokens = 128;
  // microseconds before and behind the time at which a step should end, in which the host looks
  // for its end again and again; 0: it sleeps until it is woken
  std::uint32_t look_us = 0;
  // careful guesses: they bound the length of one submission, nothing else
  double flops_per_second = 1e12;
  double bytes_per_second = 5e10;
};
// Cut to what the device allows.
Tuning TuningFor(const vulkan::PhysicalDevice& device);
void CutTuning(const vulkan::PhysicalDevice& device, Tuning* tuning);

inline constexpr std::uint32_t kAttentionLanes = 64;  // of a part, attention.comp

// How attention is shaped for a step of `rows` tokens.
struct AttentionShape {
  std::uint32_t parts = 1;
  std::uint32_t shared_heads = 1;
  bool operator==(const AttentionShape&) const = default;
};
AttentionShape ChooseAttentionShape(const Tuning& tuning, std::uint32_t heads,
                                    std::uint32_t kv_heads, std::uint32_t rows);
// What the shape takes of shared memory, in bytes.
std::uint32_t AttentionSharedBytes(const AttentionShape& shape);

// Specialisation constants of the mat-vec kernel.
struct MatvecShape {
  std::uint32_t group = 0;
  std::uint32_t lanes = 0;
  std::uint32_t rows = 0;
  std::uint32_t tokens = 0;
  std::uint32_t tile_blocks = 0;  // 0: the vectors are read where they are
  bool operator==(const MatvecShape&) const = default;
};
// For a matrix of `rows` rows of `blocks` 16-byte blocks, each holding `block_vecs` times four
// weights, times `tokens` vectors (1 to 8).
MatvecShape ChooseMatvecShape(const MatvecTuning& tuning, std::uint32_t rows, std::uint32_t blocks,
                              std::uint32_t block_vecs, std::uint32_t tokens);
// What the shape takes of shared memory, in bytes: at most tuning.shared, or 16 KiB where that is
// 0.
std::uint32_t MatvecSharedBytes(const MatvecShape& shape, std::uint32_t block_vecs);

}  // namespace tandem
