#include "gpu-worker/stage/vulkan_stage.h"

#include <algorithm>
#include <string>
#include <utility>

#include "gpu-worker/stage/vulkan_residual.h"
#include "gpu-worker/vulkan/text.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::size_t kJobsAhead = 2;  // the device never waits for the host between jobs

std::vector<VkBuffer> ExternalBuffers(const StageBindings& bindings) {
  std::vector<VkBuffer> buffers;
  for (const ResidualBuffer* bound : {bindings.input, bindings.output}) {
    const auto* residual = dynamic_cast<const VulkanResidual*>(bound);
    if (residual == nullptr || !residual->external()) continue;
    const VkBuffer handle = residual->buffer().handle();
    if (std::find(buffers.begin(), buffers.end(), handle) == buffers.end()) {
      buffers.push_back(handle);
    }
  }
  return buffers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<VulkanStage>> VulkanStage::Create(const DeviceContext& context,
                                                                 const ModelConfig& config,
                                                                 const StageSpec& spec,
                                                                 const StageBindings& bindings,
                                                                 const CompileOptions& options) {
  TANDEM_RETURN_IF_ERROR(ValidateCompile(config, spec, bindings, options));
  auto stage =
      std::unique_ptr<VulkanStage>(new VulkanStage(context, config, spec, bindings, options));
  const absl::Status status = stage->Record();
  if (!status.ok()) {
    return Annotate(status,
                    vulkan::Cat("compiling stage '", StageSpecName(spec), "' for Vulkan device \"",
                                context.device.physical().name, "\""));
  }
  return stage;
}

absl::Status VulkanStage::Record() {
  TANDEM_ASSIGN_OR_RETURN(graph_, BuildStageGraph(context_, config_, spec_, bindings_, options_));
  TANDEM_ASSIGN_OR_RETURN(timeline_, vulkan::Timeline::Create(context_.device));
  const std::vector<VkBuffer> external = ExternalBuffers(bindings_);
  const std::vector<VkBuffer> none;
  // A stage that is the head alone has no body: then the head takes the input over.
  TANDEM_ASSIGN_OR_RETURN(
      body_, BucketCommands::Record(context_, graph_.body, graph_.memory.tokens, external));
  TANDEM_ASSIGN_OR_RETURN(head_,
                          BucketCommands::Record(context_, graph_.head, graph_.memory.logit_rows,
                                                 graph_.body.empty() ? external : none));
  std::size_t most = body_.For(graph_.memory.tokens).size();
  for (std::uint32_t rows = 1; rows <= graph_.memory.tokens; rows *= 2) {
    most = std::max(most, body_.For(rows).size());
  }
  std::size_t most_head = 0;
  for (std::uint32_t rows = 1; rows <= graph_.memory.logit_rows; rows *= 2) {
    most_head = std::max(most_head, head_.For(rows).size());
  }
  jobs_.reserve(most + most_head);
  return absl::OkStatus();
}

VulkanStage::~VulkanStage() {
  // The device may still use what is about to be freed. A lost one answers at once.
  if (submitted_ > done_) timeline_.Wait(timeline_value_, absl::InfiniteFuture()).IgnoreError();
}

absl::StatusOr<std::uint32_t> VulkanStage::Base(const ResidualBuffer* buffer, std::int32_t slot,
                                                const char* which) const {
  if (buffer == nullptr) return 0;
  const ResidualLayout& layout = buffer->layout();
  if (slot < 0 || slot >= layout.slots) {
    return absl::InvalidArgumentError(vulkan::Cat("stage '", StageSpecName(spec_), "': expected ",
                                                  which, " slots in [0, ", layout.slots,
                                                  "), found ", slot));
  }
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(slot) * layout.slot_bytes /
                                    sizeof(float));
}

// Short neighbours share a job.
void VulkanStage::AppendJobs(const std::vector<Segment>& segments) {
  for (const Segment& segment : segments) {
    if (!jobs_.empty() && jobs_.back().count == 1 &&
        jobs_.back().seconds + segment.seconds <= kMaxSegmentSeconds) {
      jobs_.back().commands[1] = segment.commands;
      jobs_.back().count = 2;
      jobs_.back().seconds += segment.seconds;
    } else {
      jobs_.push_back({{segment.commands, VK_NULL_HANDLE}, 1, segment.seconds});
    }
  }
}

absl::Status VulkanStage::SubmitJobs() {
  while (submitted_ < jobs_.size() && submitted_ < done_ + kJobsAhead) {
    const Job& job = jobs_[submitted_];
    const absl::Status status = context_.device.Submit(std::span(job.commands).first(job.count),
                                                       timeline_.handle(), timeline_value_ + 1);
    if (!status.ok()) {
      jobs_.resize(submitted_);
      broken_ = status;
      return status;
    }
    ++timeline_value_;
    ++submitted_;
  }
  return absl::OkStatus();
}

absl::StatusOr<Ticket> VulkanStage::Submit(const Step& step, std::int32_t input_slot,
                                           std::int32_t output_slot) {
  if (!broken_.ok()) return broken_;
  if (running_.load(std::memory_order_relaxed) != 0) {
    return absl::FailedPreconditionError(
        vulkan::Cat("stage '", StageSpecName(spec_), "': step ", step.id,
                    " was submitted while another runs; wait for that first"));
  }
  TANDEM_RETURN_IF_ERROR(
      ValidateStep(config_, spec_, options_.limits,
                   bindings_.kv_cache == nullptr ? nullptr : &bindings_.kv_cache->spec(), step));
  TANDEM_ASSIGN_OR_RETURN(const std::uint32_t input, Base(bindings_.input, input_slot, "input"));
  TANDEM_ASSIGN_OR_RETURN(const std::uint32_t output,
                          Base(bindings_.output, output_slot, "output"));
  graph_.memory.step.Write(step, input, output);
  logit_rows_ = spec_.head ? step.logit_rows.size() : 0;
  jobs_.clear();
  submitted_ = done_ = 0;
  AppendJobs(body_.For(static_cast<std::uint32_t>(step.tokens.size())));
  if (logit_rows_ > 0) AppendJobs(head_.For(static_cast<std::uint32_t>(logit_rows_)));
  const absl::Status status = SubmitJobs();
  if (!status.ok()) {
    return Annotate(status, vulkan::Cat("stage '", StageSpecName(spec_), "'"));
  }
  running_.store(++last_ticket_, std::memory_order_release);
  return Ticket{last_ticket_};
}

bool VulkanStage::cancelled() const {
  return cancel_ticket_.load(std::memory_order_acquire) == last_ticket_;
}

absl::Status VulkanStage::Wait(Ticket ticket, absl::Time deadline) {
  if (ticket.value == 0 || ticket.value != last_ticket_) {
    return absl::InvalidArgumentError(vulkan::Cat("stage '", StageSpecName(spec_),
                                                  "': expected ticket ", last_ticket_, ", found ",
                                                  ticket.value));
  }
  absl::Status status = broken_;
  while (status.ok() && done_ < jobs_.size()) {
    status = timeline_.Wait(timeline_value_ - (submitted_ - done_) + 1, deadline);
    if (absl::IsDeadlineExceeded(status)) {
      return Annotate(status, vulkan::Cat("stage '", StageSpecName(spec_), "'"));
    }
    if (!status.ok()) break;
    ++done_;
    if (cancelled()) jobs_.resize(submitted_);
    status = SubmitJobs();
  }
  if (!status.ok()) {
    broken_ = status;
    return Annotate(status, vulkan::Cat("stage '", StageSpecName(spec_), "'"));
  }
  const bool was_running = running_.exchange(0, std::memory_order_acq_rel) != 0;
  if (!cancelled()) return absl::OkStatus();
  if (was_running) logit_rows_ = 0;
  return absl::CancelledError(vulkan::Cat("stage '", StageSpecName(spec_), "' was cancelled"));
}

void VulkanStage::Cancel() {
  const std::uint64_t running = running_.load(std::memory_order_acquire);
  if (running != 0) cancel_ticket_.store(running, std::memory_order_release);
}

std::span<const float> VulkanStage::logits() const {
  if (logit_rows_ == 0) return {};
  const auto* data = reinterpret_cast<const float*>(graph_.memory.logits.data());
  return {data, logit_rows_ * static_cast<std::uint64_t>(config_.vocab_size)};
}

}  // namespace tandem
