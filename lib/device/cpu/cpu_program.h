#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/thread_pool.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_stage.h"
#include "lib/device/program.h"
#include "lib/device/submissions.h"
#include "lib/device/validate.h"

namespace tandem {

// Work that the executor's thread runs once for each Enqueue. Owned by the caller, queued at most
// once at a time.
class CpuJob {
 public:
  virtual ~CpuJob() = default;
  virtual void Run() = 0;

 private:
  friend class CpuExecutor;
  CpuJob* next_ = nullptr;
};

// The device's own thread: runs jobs one after another, in the order in which they came. Enqueue
// allocates nothing.
class CpuExecutor {
 public:
  CpuExecutor();
  // No job may be queued or running.
  ~CpuExecutor();
  void Enqueue(CpuJob* job);

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  CpuJob* first_ = nullptr;
  CpuJob* last_ = nullptr;
  bool stop_ = false;
  std::thread thread_;
};

// What the programs of one CPU device share.
struct CpuShared {
  CpuShared(int threads, ProductUnit* unit) : unit(unit), pool(threads) {}
  // Null where the CPU multiplies itself.
  ProductUnit* const unit;
  CpuCounters counters;
  CpuPartTimes parts;
  ThreadPool pool;
  // Last: its thread ends first.
  CpuExecutor executor;
};

class CpuProgram final : public Program {
 public:
  // Reserves the memory that its steps need.
  static absl::StatusOr<std::unique_ptr<CpuProgram>> Make(CpuShared* shared,
                                                          const ModelConfig& config,
                                                          const ProgramSpec& spec);
  ~CpuProgram() override;

  std::int32_t contexts() const override { return spec_.contexts; }
  absl::Status Begin(std::int32_t context, const Step& step) override;
  absl::StatusOr<Ticket> Submit(std::int32_t stage, std::int32_t context, std::int32_t input_slot,
                                std::int32_t output_slot) override;
  absl::Status Wait(Ticket ticket, Deadline deadline) override;
  void Cancel() override;
  std::span<const float> logits(std::int32_t context) const override;
  std::span<const float> hidden_states(std::int32_t context) const override;
  std::uint64_t scratch_bytes() const override;

 private:
  struct Context {
    explicit Context(const StepRules& rules) : step(rules) {}
    CpuStepCopy step;
    // (max_tokens, hidden): the residual between the stages of a cut attention half; empty where
    // there are none.
    CpuBuffer kept;
    // (max_logit_rows, vocab); empty without a head.
    CpuBuffer logits;
    // (max_tokens, hidden); empty without a head.
    CpuBuffer hidden_states;
  };
  // A submission that is, or was, under way.
  struct Pass final : public CpuJob {
    void Run() override;
    // UNAVAILABLE: a residual's memory cannot be synchronised any more.
    absl::Status RunStage();

    CpuProgram* program = nullptr;
    const CpuStage* stage = nullptr;
    Context* context = nullptr;
    std::int32_t input_slot = 0;
    std::int32_t output_slot = 0;
    std::atomic<bool> cancelled{false};
    // Guarded by mutex_.
    bool running = false;
    // What the stage came to.
    absl::Status result;
  };

  CpuProgram(CpuShared* shared, const ModelConfig& config, const ProgramSpec& spec)
      : shared_(shared),
        config_(config),
        spec_(spec),
        rules_(StepRulesOf(config, spec)),
        submissions_(spec),
        work_(&shared->pool, shared->unit, &shared->parts),
        passes_(static_cast<std::size_t>(spec.contexts)) {}

  CpuShared* const shared_;
  const ModelConfig config_;
  // Keeps the weights alive.
  const ProgramSpec spec_;
  const StepRules rules_;
  Submissions submissions_;
  CpuWorkspace work_;
  std::vector<CpuStage> stages_;
  // The groups that the unit was asked to make ready.
  std::vector<std::vector<MatrixView>> prepared_;
  std::vector<Context> contexts_;
  // At Submissions::IndexOf(ticket).
  std::vector<Pass> passes_;

  std::mutex mutex_;
  std::condition_variable done_;
};

}  // namespace tandem
