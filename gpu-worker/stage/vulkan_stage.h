#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/stage_graph.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/device/device.h"

namespace tandem {

// A compiled stage on a Vulkan device. A step is a list of jobs of bounded length; at most two are
// with the device at a time, and Wait sends the next as one ends, so that Cancel stops soon.
class VulkanStage final : public Stage {
 public:
  static absl::StatusOr<std::unique_ptr<VulkanStage>> Create(const DeviceContext& context,
                                                             const ModelConfig& config,
                                                             const StageSpec& spec,
                                                             const StageBindings& bindings,
                                                             const CompileOptions& options);
  ~VulkanStage() override;

  absl::StatusOr<Ticket> Submit(const Step& step, std::int32_t input_slot,
                                std::int32_t output_slot) override;
  absl::Status Wait(Ticket ticket, absl::Time deadline) override;
  void Cancel() override;
  std::span<const float> logits() const override;

 private:
  // Command buffers that are submitted together.
  struct Job {
    VkCommandBuffer commands[2] = {VK_NULL_HANDLE, VK_NULL_HANDLE};
    std::uint32_t count = 0;
    double seconds = 0;
  };

  VulkanStage(const DeviceContext& context, const ModelConfig& config, const StageSpec& spec,
              const StageBindings& bindings, const CompileOptions& options)
      : context_(context), config_(config), spec_(spec), bindings_(bindings), options_(options) {}
  absl::Status Record();
  absl::StatusOr<std::uint32_t> Base(const ResidualBuffer* buffer, std::int32_t slot,
                                     const char* which) const;
  void AppendJobs(const std::vector<Segment>& segments);
  absl::Status SubmitJobs();
  bool cancelled() const;

  const DeviceContext context_;
  const ModelConfig config_;
  const StageSpec spec_;
  const StageBindings bindings_;  // keeps the weights alive
  const CompileOptions options_;
  StageGraph graph_;
  vulkan::Timeline timeline_;
  BucketCommands body_;
  BucketCommands head_;

  std::vector<Job> jobs_;  // of the step in flight; capacity reserved
  std::size_t submitted_ = 0;
  std::size_t done_ = 0;
  std::uint64_t timeline_value_ = 0;  // of the last job submitted
  std::uint64_t last_ticket_ = 0;
  std::uint64_t logit_rows_ = 0;
  absl::Status broken_;                          // a lost device stays lost
  std::atomic<std::uint64_t> running_{0};        // ticket in flight; 0: none
  std::atomic<std::uint64_t> cancel_ticket_{0};  // ticket that Cancel met
};

}  // namespace tandem
