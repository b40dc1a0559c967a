#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/shared_memory.h"
#include "lib/device/device.h"
#include "lib/weights/region.h"

namespace tandem {

// Runs a whole model on one device, its stages one after another, for tests: what a scheduler,
// workers and edges do in the real thing.

struct RunnerOptions {
  // The whole model, in order, perhaps several times; empty: one stage that does it all.
  std::vector<StageSpec> stages = {};
  // Most tokens of the first of them; 0: the limits'.
  std::int32_t first_stage_tokens = 0;
  StepLimits limits = {
      .max_tokens = 64, .max_sequences = 4, .max_logit_rows = 64, .max_blocks_per_sequence = 16};
  ActivationType activations = ActivationType::kFloat32;
  KvType kv_type = KvType::kFloat32;
  // Residual buffers between stages: the device's own, or shared memory imported in
  // this way.
  std::optional<HandleKind> import_residuals = std::nullopt;
  // Or memory that the device exports as dma-buf.
  bool export_residuals = false;
  // Order in which physical blocks are given out.
  std::uint32_t block_seed = 1;
  std::int32_t contexts = 2;
  // Steps ask for hidden states, too.
  bool hidden_states = false;
};

// Every stage of `config` with each half layer on its own: embed, attention 0, ffn 0, ..., head.
std::vector<StageSpec> OneStagePerHalf(const ModelConfig& config);
// The same model with every attention cut out of its layer: embed, qkv 0, attend 0, output 0 + ffn
// 0 + qkv 1, attend 1, ..., head.
std::vector<StageSpec> AttentionApart(const ModelConfig& config);

// One sequence's part of a step, which continues at its present length.
struct RunnerShare {
  std::int32_t slot = 0;
  std::vector<std::int32_t> tokens;
};

class ModelRunner {
 public:
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Make(
      Device* device, const ModelConfig& config,
      const std::vector<std::shared_ptr<const Region>>& regions, const RunnerOptions& options);

  // Runs a step and returns the logits of all its tokens, (tokens, vocab), share by share.
  absl::StatusOr<std::vector<float>> Step(std::span<const RunnerShare> shares);
  // The same for one sequence of any length, in chunks of at most `chunk` tokens.
  absl::StatusOr<std::vector<float>> Prefill(std::int32_t slot,
                                             std::span<const std::int32_t> tokens,
                                             std::int32_t chunk);
  // Hidden states of all tokens since the last call, (tokens, hidden).
  std::vector<float> TakeHiddenStates() { return std::exchange(hidden_states_, {}); }
  // Takes back the last `tokens` positions of a slot: the next step writes them again.
  void Rewind(std::int32_t slot, std::int32_t tokens);
  // The sequence goes on in the same slot of `to`, which has none there, its keys and values passed
  // through shared memory; it stays here, too.
  absl::Status HandOver(std::int32_t slot, ModelRunner* to);
  KvCache* cache() { return cache_.get(); }
  // Forgets a sequence; its blocks go to others.
  void End(std::int32_t slot);

  // Lower level: the next step of these shares, whose spans live until the next call; and the
  // program itself, its stages numbered as in the options.
  const tandem::Step& Prepare(std::span<const RunnerShare> shares);
  Program* program() { return program_.get(); }
  std::int32_t stages() const { return static_cast<std::int32_t>(options_.stages.size()); }
  // Runs one stage on the step in a context and waits for it.
  absl::Status RunStage(std::int32_t stage, std::int32_t context, std::int32_t input_slot = 0,
                        std::int32_t output_slot = 0);
  // Begins the step in a context and runs every stage on it, in that slot of every residual.
  absl::Status RunAll(const tandem::Step& step, std::int32_t context, std::int32_t slot);
  // The residual behind stage `index`.
  ResidualBuffer* residual(std::size_t index) { return residuals_[index].get(); }
  // The memory of a shared residual, as another process would map it.
  std::span<const float> residual_memory(std::size_t index) const;
  // After stages have run: lengths grow by the shares of the last Prepare.
  void Commit();

 private:
  struct Sequence {
    std::int32_t length = 0;
    std::vector<std::int32_t> global_blocks;
    std::vector<std::int32_t> window_blocks;
  };
  ModelRunner() = default;
  absl::Status MakeResiduals(Device* device);
  absl::Status RunNext(std::span<const RunnerShare> shares, std::vector<float>* logits);
  void GrowTables(Sequence* sequence, std::int32_t end);

  ModelConfig config_;
  RunnerOptions options_;
  std::vector<std::shared_ptr<const Weights>> weights_;
  std::unique_ptr<KvCache> cache_;
  std::vector<SharedMemory> shared_;
  std::vector<std::unique_ptr<ResidualBuffer>> residuals_;
  std::unique_ptr<Program> program_;

  std::map<std::int32_t, Sequence> sequences_;
  std::vector<std::int32_t> free_global_;
  std::vector<std::int32_t> free_window_;
  std::uint64_t next_step_ = 1;
  tandem::Step step_;
  std::vector<std::int32_t> step_tokens_;
  std::vector<std::int32_t> step_rows_;
  std::vector<float> hidden_states_;
  std::vector<StepSequence> step_sequences_;
};

}  // namespace tandem
