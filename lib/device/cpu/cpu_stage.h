#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/cpu/cpu_executor.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_products.h"
#include "lib/device/cpu/cpu_stage_plan.h"
#include "lib/device/device.h"

namespace tandem {

// What the stages of one CPU device share.
struct CpuShared {
  explicit CpuShared(int threads) : pool(threads), products(&pool, &scratch) {}
  CpuCounters counters;
  ThreadPool pool;
  CpuScratch scratch;    // used, and changed, under executor.running()
  CpuProducts products;  // likewise
  CpuExecutor executor;  // last: its thread ends first
};

// A step copied out of the caller's spans, in memory of a fixed size.
class CpuStepCopy {
 public:
  explicit CpuStepCopy(const StepLimits& limits);
  void Assign(const Step& step);

  struct Token {
    std::int32_t id = 0;
    std::int32_t position = 0;
    std::int32_t sequence = 0;
  };
  std::span<const Token> tokens() const { return tokens_; }
  std::span<const std::int32_t> logit_rows() const { return logit_rows_; }
  const std::int32_t* blocks(std::int32_t sequence, bool global) const {
    return tables_.data() +
           (2 * static_cast<std::size_t>(sequence) + (global ? 0 : 1)) * table_size_;
  }

 private:
  std::size_t table_size_;
  std::vector<Token> tokens_;
  std::vector<std::int32_t> logit_rows_;
  std::vector<std::int32_t> tables_;
};

class CpuStage final : public Stage, private CpuJob {
 public:
  // Reserves the memory that its steps need. The bindings were validated.
  static absl::StatusOr<std::unique_ptr<CpuStage>> Make(CpuShared* shared,
                                                        const ModelConfig& config,
                                                        const StageSpec& spec,
                                                        const StageBindings& bindings,
                                                        const CompileOptions& options);
  ~CpuStage() override;  // cancels and waits

  absl::StatusOr<Ticket> Submit(const Step& step, std::int32_t input_slot,
                                std::int32_t output_slot) override;
  absl::Status Wait(Ticket ticket, absl::Time deadline) override;
  void Cancel() override { cancelled_.store(true, std::memory_order_relaxed); }
  std::span<const float> logits() const override;

 private:
  enum class State { kIdle, kRunning, kDone };

  CpuStage(CpuShared* shared, const ModelConfig& config, const StageSpec& spec,
           const CompileOptions& options)
      : shared_(shared), config_(config), spec_(spec), options_(options), step_(options.limits) {}
  absl::Status CheckSlots(std::int32_t input_slot, std::int32_t output_slot) const;

  // On the executor's thread; cpu_stage_halves.cc.
  void Run() override;
  void RunHalves();
  void Embed();
  void FillRope();
  void FillRopeOf(const std::vector<float>& frequencies, float* cosines, float* sines);
  void AttentionHalf(const CpuAttentionHalf& half);
  void StoreToken(const CpuAttentionHalf& half, std::int64_t token);
  void AttendToken(const CpuAttentionHalf& half, std::int64_t token, std::int64_t head);
  void FfnHalf(const CpuFfnHalf& half);
  void Norm(const float* weights);
  void AddNormed(const float* weights);
  void Head();
  std::int64_t tokens() const { return static_cast<std::int64_t>(step_.tokens().size()); }

  CpuShared* shared_;
  ModelConfig config_;
  StageSpec spec_;
  CompileOptions options_;
  StageBindings bindings_;
  CpuStagePlan plan_;
  KvCacheSpec kv_spec_;
  const CpuResidual* input_ = nullptr;
  const CpuResidual* output_ = nullptr;
  CpuBuffer logits_;  // (max_logit_rows, vocab)

  CpuStepCopy step_;
  const float* base_ = nullptr;  // (tokens, hidden): the residual so far
  float* target_ = nullptr;      // where this stage leaves it
  std::atomic<bool> cancelled_{false};

  std::mutex mutex_;
  std::condition_variable done_;
  State state_ = State::kIdle;
  bool was_cancelled_ = false;
  bool in_flight_ = false;  // submitted and not yet waited for
  std::uint64_t ticket_ = 0;
};

}  // namespace tandem
