#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/logit_readback.h"
#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/run_times.h"
#include "gpu-worker/stage/stage_graph.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/device/program.h"
#include "lib/device/submissions.h"
#include "lib/device/validate.h"

namespace tandem {

// The compiled stages of a worker on a Vulkan device. Commands are recorded once per stage and
// token bucket and serve every context (program_memory.h says how). A submission is a list of jobs
// of bounded length, in one queue with all others; the device gets a bounded amount of work ahead,
// and Wait sends the next jobs as one ends, so that Cancel stops soon.
class VulkanProgram final : public Program {
 public:
  static absl::StatusOr<std::unique_ptr<VulkanProgram>> Create(const DeviceContext& context,
                                                               const ModelConfig& config,
                                                               const ProgramSpec& spec);
  ~VulkanProgram() override;

  std::int32_t contexts() const override { return spec_.contexts; }
  absl::Status Begin(std::int32_t context, const Step& step) override;
  absl::StatusOr<Ticket> Submit(std::int32_t stage, std::int32_t context, std::int32_t input_slot,
                                std::int32_t output_slot) override;
  absl::Status Wait(Ticket ticket, Deadline deadline) override;
  void Cancel() override;
  std::span<const float> logits(std::int32_t context) const override;
  std::span<const float> hidden_states(std::int32_t context) const override;
  std::optional<LogitCandidates> candidates(std::int32_t context, std::int32_t row,
                                            CandidateMemory* memory) const override;
  std::uint64_t scratch_bytes() const override { return memory_.sizes.bytes(); }

 private:
  struct Recorded {
    // Tokens of the largest bucket.
    std::uint32_t rows = 0;
    BucketCommands body;
    // For steps in which every sequence has one token.
    std::optional<BucketCommands> decode;
    std::optional<BucketCommands> single;
    // The same, chained (chain.h).
    std::optional<BucketCommands> chained;
    // For 2 to `few_tokens` of them.
    std::optional<BucketCommands> few;
    std::uint32_t few_tokens = 0;
    // Of each context; empty where the stage is not the head.
    std::vector<BucketCommands> heads;
    // The same, for steps that ask for hidden states.
    std::vector<BucketCommands> hidden_states;
  };
  // Command buffers that are submitted together: a header's copy, and pieces of body and head.
  struct Job {
    std::array<VkCommandBuffer, 3> commands{};
    std::uint32_t count = 0;
    double seconds = 0;
  };
  // A submission that is, or was, under way.
  struct Pass {
    // Capacity is reserved.
    std::vector<Job> jobs;
    std::size_t sent = 0;
    std::size_t done = 0;
    // Its dispatches are.
    bool chained = false;
    RunTimes::Run run;
  };

  VulkanProgram(const DeviceContext& context, const ModelConfig& config, const ProgramSpec& spec);
  absl::Status Record();
  // Whether products may come in parts.
  bool UsesParts() const;
  absl::StatusOr<Recorded> RecordStage(const ProgramStage& stage);
  absl::Status RecordHeaderCopies();
  std::size_t MostJobs(const Recorded& stage) const;

  // Writes the header of the next submission, and begins its list of jobs.
  void AddHeader(std::int32_t stage, std::int32_t context, std::int32_t input_slot,
                 std::int32_t output_slot, Pass* pass);
  static void AppendJobs(const std::vector<Segment>& segments, std::vector<Job>* jobs);
  Pass& PassOf(std::uint64_t ticket) { return passes_[submissions_.IndexOf(ticket)]; }
  bool Cancelled(std::uint64_t ticket) const;
  // Sends jobs, oldest first, as long as there is not too much ahead; drops those of cancelled
  // submissions.
  absl::Status SendJobs();
  // Waits for the oldest job that the device has, which is the next of the oldest submission.
  absl::Status WaitForJob(Deadline deadline);
  absl::Status WaitForEnd(const Pass& pass, Deadline deadline) const;
  // What a step that is done comes to.
  absl::Status ResultOf(const Pass& pass);

  const DeviceContext context_;
  const ModelConfig config_;
  // Keeps the weights alive.
  const ProgramSpec spec_;
  const StepRules rules_;
  Submissions submissions_;
  // Of each context: every sequence of its step has one token.
  std::vector<bool> single_tokens_;
  ProgramMemory memory_;
  // Where a stage is the head.
  std::unique_ptr<LogitReadback> readback_;
  vulkan::Timeline timeline_;
  std::vector<Recorded> stages_;
  vulkan::CommandPool copies_pool_;
  // Of the ring's headers to the active one.
  std::vector<VkCommandBuffer> copies_;
  // At Submissions::IndexOf(ticket).
  std::vector<Pass> passes_;
  RunTimes times_;
  // How long before and behind the expected end of a submission the host looks for it.
  const absl::Duration look_;

  // The timeline's values of the last job that was sent, and of the last that is known to be done.
  std::uint64_t jobs_sent_ = 0;
  std::uint64_t jobs_done_ = 0;
  double seconds_ahead_ = 0;
  // A lost device stays lost.
  absl::Status broken_;
  // Of the chain that failed in this program, the dispatch that was waited for; 0: none did.
  std::uint32_t chain_lost_ = 0;
  // Up to this ticket submissions are cancelled.
  std::atomic<std::uint64_t> cancel_ticket_{0};
};

}  // namespace tandem
