#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/decode_attention.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/device/program.h"
#include "lib/device/validate.h"
#include "lib/model/config.h"

namespace tandem {

// How the host-visible buffer of step parameters is laid out, in bytes; see
// kernels/common/step_params.h. Kernels read the one *active* header at its start, which says where
// the submission's context lies and which slots it uses; so commands are recorded once for all
// contexts and slots. Where nothing is under way the host writes it; else the device copies a
// header of the ring there in front of the submission. So the host never writes what the device may
// be reading.
//
//   active header | contexts times the words of a step | contexts times a header (the ring)
struct StepBufferLayout {
  // Of context 0, without counts and bases. Offsets of context c are `context_words` times c
  // larger.
  kernels::StepHeader header{};
  std::uint32_t context_words = 0;
  bool global_tables = false;
  bool window_tables = false;
  std::uint64_t ring_offset = 0;
  std::uint64_t bytes = 0;
};
// Of a step of so many tokens, at most: each holds kMinTiledTokens tokens, or follows one of its
// sequence that is full.
constexpr std::uint32_t MostTiles(std::uint32_t tokens) {
  return tokens / kernels::kMinTiledTokens;
}
StepBufferLayout LayOutStepBuffer(const StepRules& rules, std::int32_t contexts);

class StepBuffer {
 public:
  StepBuffer() = default;
  static absl::StatusOr<StepBuffer> Create(const vulkan::LogicalDevice& device,
                                           const StepRules& rules, std::int32_t contexts);
  // Writes a valid step. No submission that uses the context is under way. Allocates nothing.
  void WriteContext(std::int32_t context, const Step& step);
  // Writes the header of a submission of the step in `context` to a free entry of the ring, or,
  // where no submission is under way, to where kernels read it.
  void WriteHeader(std::size_t entry, std::int32_t context, std::uint32_t input_base,
                   std::uint32_t output_base);
  void WriteActiveHeader(std::int32_t context, std::uint32_t input_base, std::uint32_t output_base);

  // For kernels.
  vulkan::BufferSlice slice() const { return buffer_.slice(); }
  vulkan::BufferSlice active_header() const;
  vulkan::BufferSlice header(std::size_t entry) const;

 private:
  kernels::StepHeader HeaderOf(std::int32_t context, std::uint32_t input_base,
                               std::uint32_t output_base) const;
  struct Counts {
    std::uint32_t tokens = 0;
    std::uint32_t logit_rows = 0;
    std::uint32_t tiles = 0;
  };
  StepBufferLayout layout_;
  std::vector<Counts> counts_;
  vulkan::Buffer buffer_;
};

// Floats that a row's candidates take.
inline constexpr std::uint64_t kFoundFloats =
    sizeof(kernels::CandidatesHeader) / sizeof(float) + 2 * kernels::kMaxCandidates;

// Tokens of the largest step that a stage takes, rounded up to a power of two.
std::uint32_t RowsOf(const ProgramStage& stage, const StepLimits& limits);

// What a program allocates: floats of each buffer, 0 for what its stages do not need. Tokens are
// RowsOf the stage, logit rows the limits', rounded up to a power of two.
struct ProgramMemorySizes {
  std::uint32_t logit_rows = 0;
  // (tokens, hidden): between the halves of a stage; normed; what a half adds, in parts.
  std::uint64_t residual = 0, normed = 0, branch = 0;
  // (1, hidden): takes turns with the first row of `residual` in steps of one token (stream.h).
  std::uint64_t other_residual = 0;
  // (tokens, (heads + 2 * kv_heads) * head_dim), in parts, and (tokens, heads * head_dim).
  std::uint64_t qkv = 0, attended = 0;
  // (tokens, 2 * ffn) and (tokens, ffn).
  std::uint64_t gate_up = 0, activated = 0;
  // (logit_rows, hidden).
  std::uint64_t head_normed = 0;
  // (logit_rows, vocab), once for each context on the device and once for the host.
  std::uint64_t logits = 0;
  // (tokens, hidden), once for each context for the host, where the head stands.
  std::uint64_t hidden_states = 0;
  // Of the kernels that find candidates: blocks of a row and their length; what they leave
  // (logit_rows, blocks, kLogitBlockFloats); and, for each context, pairs for each row
  // (candidates_params.h).
  std::uint32_t logit_block = 0, logit_blocks = 0;
  std::uint64_t of_blocks = 0, found = 0;
  // (head_dim / 2), for global and for sliding-window layers.
  std::uint64_t frequencies = 0;
  // What attention of single tokens keeps (decode_attention.h).
  DecodeRoom decode;
  std::uint64_t contexts = 0;
  StepBufferLayout step;

  // Of all buffers together.
  std::uint64_t bytes() const;
};
// Of a program that ValidateCompile accepts; its weights and buffers need not exist. `parts`:
// products may come in parts (MaxPartRows of product.h). What products read has room for
// kMinActivationRows rows.
ProgramMemorySizes SizeProgramMemory(const ModelConfig& config,
                                     std::span<const ProgramStage> stages, const StepRules& rules,
                                     std::int32_t contexts, bool parts, const DecodeRoom& decode);

// Buffers that the stages of a program share, allocated once, with rows contiguous: float32, or
// what products read (normed, attended, activated, head_normed) in the form that they want. Stages
// run one after another on the device. What no stage needs stays empty.
struct ProgramMemory {
  ProgramMemorySizes sizes;
  StepBuffer step;
  vulkan::Buffer residual, normed, branch, other_residual;
  vulkan::Buffer qkv, attended;
  vulkan::Buffer gate_up, activated;
  vulkan::Buffer head_normed;
  // Sums of splits; and counters, words that are 0 between dispatches.
  vulkan::Buffer splits, counters;
  // Of chained lists, and their word for the host (chain.h).
  vulkan::Buffer chain_words, chain_report;
  // Of each context: logits, and the same and candidates for the host to read.
  std::vector<vulkan::Buffer> logits, logits_read, found;
  // Of each context: final hidden states for the host to read.
  std::vector<vulkan::Buffer> hidden_states;
  vulkan::Buffer of_blocks;
  // Turn of RoPE per position, in radians.
  vulkan::Buffer global_frequencies, window_frequencies;

  // UNIMPLEMENTED names a buffer that is larger than the device binds at once.
  static absl::StatusOr<ProgramMemory> Create(const vulkan::LogicalDevice& device,
                                              const ModelConfig& config, const ProgramSpec& spec,
                                              const StepRules& rules, bool parts,
                                              const DecodeRoom& decode);
};

}  // namespace tandem
