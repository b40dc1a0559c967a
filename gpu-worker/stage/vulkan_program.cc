#include "gpu-worker/stage/vulkan_program.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <thread>
#include <utility>

#include "gpu-worker/stage/chain.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/device.h"

namespace tandem {
namespace {

// With fewer processors whoever looks for an end takes one away from others.
constexpr unsigned kProcessorsToLook = 4;

// However long they are: the device never waits for the host between jobs.
constexpr std::uint64_t kJobsAhead = 2;

std::vector<VkBuffer> ExternalBuffers(const ProgramStage& stage) {
  std::vector<VkBuffer> buffers;
  for (const ResidualBuffer* bound : {stage.input, stage.output}) {
    const auto* residual = dynamic_cast<const VulkanResidual*>(bound);
    if (residual == nullptr || !residual->external()) continue;
    const VkBuffer handle = residual->buffer().handle();
    if (std::find(buffers.begin(), buffers.end(), handle) == buffers.end()) {
      buffers.push_back(handle);
    }
  }
  return buffers;
}

// First float of a slot.
std::uint32_t BaseOf(const ResidualBuffer* buffer, std::int32_t slot) {
  if (buffer == nullptr) return 0;
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(slot) * buffer->layout().slot_bytes /
                                    sizeof(float));
}

}  // namespace

VulkanProgram::VulkanProgram(const DeviceContext& context, const ModelConfig& config,
                             const ProgramSpec& spec)
    : context_(context),
      config_(config),
      spec_(spec),
      rules_(StepRulesOf(config, spec)),
      submissions_(spec),
      single_tokens_(static_cast<std::size_t>(spec.contexts)),
      passes_(static_cast<std::size_t>(spec.contexts)),
      times_(spec.stages.size()),
      look_(absl::Microseconds(
          std::thread::hardware_concurrency() >= kProcessorsToLook ? context.tuning.look_us : 0)) {}

absl::StatusOr<std::unique_ptr<VulkanProgram>> VulkanProgram::Create(const DeviceContext& context,
                                                                     const ModelConfig& config,
                                                                     const ProgramSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ValidateCompile(config, spec));
  auto program = std::unique_ptr<VulkanProgram>(new VulkanProgram(context, config, spec));
  const absl::Status status = program->Record();
  if (!status.ok()) {
    return Annotate(status,
                    Cat("compiling for Vulkan device \"", context.device.physical().name, "\""));
  }
  return program;
}

absl::Status VulkanProgram::Record() {
  TANDEM_ASSIGN_OR_RETURN(
      memory_, ProgramMemory::Create(context_.device, config_, spec_, rules_, UsesParts(),
                                     RoomForDecode(context_, config_, DecodeBucket(spec_.limits))));
  TANDEM_ASSIGN_OR_RETURN(timeline_, vulkan::Timeline::Create(context_.device));
  TANDEM_RETURN_IF_ERROR(RecordHeaderCopies());
  if (memory_.sizes.logit_rows > 0) {
    TANDEM_ASSIGN_OR_RETURN(LogitReadback readback,
                            LogitReadback::Create(context_, memory_, config_.vocab_size));
    readback_ = std::make_unique<LogitReadback>(std::move(readback));
  }
  std::size_t most_jobs = 0;
  for (const ProgramStage& stage : spec_.stages) {
    absl::StatusOr<Recorded> recorded = RecordStage(stage);
    if (!recorded.ok()) {
      return Annotate(recorded.status(), Cat("stage '", StageSpecName(stage.spec), "'"));
    }
    stages_.push_back(*std::move(recorded));
    most_jobs = std::max(most_jobs, MostJobs(stages_.back()));
  }
  for (Pass& pass : passes_) pass.jobs.reserve(most_jobs);
  return absl::OkStatus();
}

bool VulkanProgram::UsesParts() const {
  return (context_.fragments || context_.matrices()) && spec_.activations == ActivationType::kAuto;
}

absl::Status VulkanProgram::RecordHeaderCopies() {
  TANDEM_ASSIGN_OR_RETURN(copies_pool_, vulkan::CommandPool::Create(context_.device));
  for (std::size_t entry = 0; entry < passes_.size(); ++entry) {
    // Begins with a barrier: what read the active header before is done.
    TANDEM_ASSIGN_OR_RETURN(vulkan::CommandBuffer commands, copies_pool_.Begin());
    commands.Copy(memory_.step.header(entry), memory_.step.active_header());
    copies_.push_back(commands.handle());
    TANDEM_RETURN_IF_ERROR(commands.Finish());
  }
  return absl::OkStatus();
}

absl::StatusOr<VulkanProgram::Recorded> VulkanProgram::RecordStage(const ProgramStage& stage) {
  TANDEM_ASSIGN_OR_RETURN(const StageGraph graph,
                          BuildStageGraph(context_, config_, spec_, stage, memory_));
  const std::vector<VkBuffer> external = ExternalBuffers(stage);
  const std::vector<VkBuffer> none;
  Recorded recorded;
  recorded.rows = RowsOf(stage, spec_.limits);
  TANDEM_ASSIGN_OR_RETURN(
      recorded.body,
      BucketCommands::Record(context_, graph.body, {.max_rows = recorded.rows}, external));
  if (!graph.decode.empty()) {
    TANDEM_ASSIGN_OR_RETURN(
        recorded.decode,
        BucketCommands::Record(context_, graph.decode, {.max_rows = DecodeBucket(spec_.limits)},
                               external));
  }
  if (!graph.single.empty()) {
    TANDEM_ASSIGN_OR_RETURN(recorded.single,
                            BucketCommands::Record(context_, graph.single, {}, external));
  }
  if (!graph.chained.empty()) {
    TANDEM_ASSIGN_OR_RETURN(
        recorded.chained,
        BucketCommands::Record(context_, graph.chained, {}, external, memory_.chain_words.slice()));
  }
  if (!graph.few.empty()) {
    recorded.few_tokens = graph.few_tokens;
    TANDEM_ASSIGN_OR_RETURN(
        recorded.few, BucketCommands::Record(context_, graph.few, {2, graph.few_tokens}, external,
                                             memory_.chain_words.slice()));
  }
  for (const std::vector<Op>& head : graph.heads) {
    // A stage that is the head alone has no body: then the head takes the input over.
    TANDEM_ASSIGN_OR_RETURN(
        BucketCommands commands,
        BucketCommands::Record(context_, head, {.max_rows = memory_.sizes.logit_rows},
                               graph.body.empty() ? external : none));
    recorded.heads.push_back(std::move(commands));
  }
  for (const std::vector<Op>& list : graph.hidden_states) {
    TANDEM_ASSIGN_OR_RETURN(BucketCommands commands,
                            BucketCommands::Record(context_, list, {.max_rows = recorded.rows},
                                                   graph.body.empty() ? external : none));
    recorded.hidden_states.push_back(std::move(commands));
  }
  return recorded;
}

std::size_t VulkanProgram::MostJobs(const Recorded& stage) const {
  std::size_t body = 0;
  for (std::uint32_t rows = 1; rows <= stage.rows; rows *= 2) {
    body = std::max(body, stage.body.For(rows).size());
  }
  for (std::uint32_t rows = 1; stage.decode.has_value() && rows <= DecodeBucket(spec_.limits);
       rows *= 2) {
    body = std::max(body, stage.decode->For(rows).size());
  }
  for (const auto* list : {&stage.single, &stage.chained})
    if (list->has_value()) body = std::max(body, (*list)->For(1).size());
  for (std::uint32_t rows = 2; rows <= stage.few_tokens; rows *= 2)
    body = std::max(body, stage.few->For(rows).size());
  std::size_t head = 0;
  for (std::uint32_t rows = 1; !stage.heads.empty() && rows <= memory_.sizes.logit_rows;
       rows *= 2) {
    head = std::max(head, stage.heads.front().For(rows).size());
  }
  std::size_t hidden_states = 0;
  for (std::uint32_t rows = 1; !stage.hidden_states.empty() && rows <= stage.rows; rows *= 2) {
    hidden_states = std::max(hidden_states, stage.hidden_states.front().For(rows).size());
  }
  // One for a stage that has nothing to do.
  return 1 + body + head + hidden_states;
}

VulkanProgram::~VulkanProgram() {
  // The device may still use what is about to be freed. A lost one answers at once.
  if (jobs_sent_ > jobs_done_) timeline_.Wait(jobs_sent_, Deadline::Never()).IgnoreError();
}

absl::Status VulkanProgram::Begin(std::int32_t context, const Step& step) {
  if (!broken_.ok()) return broken_;
  TANDEM_RETURN_IF_ERROR(submissions_.CheckBegin(context));
  submissions_.SetBegun(context, nullptr);
  TANDEM_RETURN_IF_ERROR(ValidateStep(rules_, step));
  memory_.step.WriteContext(context, step);
  single_tokens_[static_cast<std::size_t>(context)] = step.tokens.size() == step.sequences.size();
  submissions_.SetBegun(context, &step);
  return absl::OkStatus();
}

void VulkanProgram::AddHeader(std::int32_t stage, std::int32_t context, std::int32_t input_slot,
                              std::int32_t output_slot, Pass* pass) {
  const ProgramStage& bound = spec_.stages[static_cast<std::size_t>(stage)];
  const std::uint32_t input = BaseOf(bound.input, input_slot);
  const std::uint32_t output = BaseOf(bound.output, output_slot);
  pass->jobs.clear();
  pass->sent = pass->done = 0;
  if (submissions_.first_open() == submissions_.next()) {
    memory_.step.WriteActiveHeader(context, input, output);
    pass->jobs.emplace_back();
    return;
  }
  const std::size_t entry = submissions_.IndexOf(submissions_.next());
  memory_.step.WriteHeader(entry, context, input, output);
  pass->jobs.push_back({{copies_[entry]}, 1, 0});
}

// Short neighbours share a job.
void VulkanProgram::AppendJobs(const std::vector<Segment>& segments, std::vector<Job>* jobs) {
  for (const Segment& segment : segments) {
    Job& last = jobs->back();
    if (last.count < last.commands.size() &&
        (last.seconds == 0 || last.seconds + segment.seconds <= kMaxSegmentSeconds)) {
      last.commands[last.count++] = segment.commands;
      last.seconds += segment.seconds;
    } else {
      jobs->push_back({{segment.commands}, 1, segment.seconds});
    }
  }
}

absl::StatusOr<Ticket> VulkanProgram::Submit(std::int32_t stage, std::int32_t context,
                                             std::int32_t input_slot, std::int32_t output_slot) {
  if (!broken_.ok()) return broken_;
  TANDEM_RETURN_IF_ERROR(submissions_.CheckSubmit(stage, context, input_slot, output_slot));
  const std::uint64_t ticket = submissions_.next();
  Pass& pass = PassOf(ticket);
  AddHeader(stage, context, input_slot, output_slot, &pass);
  const Recorded& recorded = stages_[static_cast<std::size_t>(stage)];
  const bool decodes =
      recorded.decode.has_value() && single_tokens_[static_cast<std::size_t>(context)];
  const auto tokens = static_cast<std::uint32_t>(submissions_.tokens(context));
  const bool one = decodes && tokens == 1;
  const bool few = decodes && tokens > 1 && tokens <= recorded.few_tokens;
  pass.chained = (few || (one && recorded.chained.has_value())) && context_.chain->usable();
  const bool single = one && recorded.single.has_value();
  const BucketCommands& body = pass.chained ? (few ? *recorded.few : *recorded.chained)
                               : single     ? *recorded.single
                               : decodes    ? *recorded.decode
                                            : recorded.body;
  AppendJobs(body.For(tokens), &pass.jobs);
  if (!recorded.hidden_states.empty() && submissions_.hidden_states(context)) {
    AppendJobs(recorded.hidden_states[static_cast<std::size_t>(context)].For(tokens), &pass.jobs);
  }
  const auto rows = static_cast<std::uint32_t>(submissions_.logit_rows(context));
  if (!recorded.heads.empty() && rows > 0) {
    AppendJobs(recorded.heads[static_cast<std::size_t>(context)].For(rows), &pass.jobs);
  }
  pass.run = times_.Sent(stage, decodes, !recorded.heads.empty() && rows > 0,
                         submissions_.tokens(context), Clock::Real().Uptime());
  if (readback_ != nullptr) readback_->Forget(context);
  submissions_.Add(stage, context);
  const absl::Status status = SendJobs();
  if (!status.ok()) return Annotate(status, submissions_.StageName(stage));
  return Ticket{ticket};
}

bool VulkanProgram::Cancelled(std::uint64_t ticket) const {
  return ticket <= cancel_ticket_.load(std::memory_order_acquire);
}

absl::Status VulkanProgram::SendJobs() {
  for (std::uint64_t ticket = submissions_.first_open(); ticket < submissions_.next(); ++ticket) {
    Pass& pass = PassOf(ticket);
    if (Cancelled(ticket)) pass.jobs.resize(pass.sent);
    while (pass.sent < pass.jobs.size()) {
      const Job& job = pass.jobs[pass.sent];
      if (jobs_sent_ - jobs_done_ >= kJobsAhead &&
          seconds_ahead_ + job.seconds > kMaxSegmentSeconds) {
        return absl::OkStatus();
      }
      const absl::Status status = context_.device.Submit(std::span(job.commands).first(job.count),
                                                         timeline_.handle(), jobs_sent_ + 1);
      if (!status.ok()) {
        broken_ = status;
        return status;
      }
      ++jobs_sent_;
      ++pass.sent;
      seconds_ahead_ += job.seconds;
    }
  }
  return absl::OkStatus();
}

absl::Status VulkanProgram::WaitForEnd(const Pass& pass, Deadline deadline) const {
  const std::optional<absl::Duration> end = times_.ExpectedEnd(pass.run);
  if (look_ == absl::ZeroDuration() || !end.has_value())
    return timeline_.Wait(jobs_done_ + 1, deadline);
  return timeline_.WaitLooking(jobs_done_ + 1, *end - look_, *end + look_, deadline);
}

absl::Status VulkanProgram::WaitForJob(Deadline deadline) {
  const std::uint64_t first = submissions_.first_open();
  Pass& pass = PassOf(first);
  const bool last = pass.done + 1 == pass.jobs.size() && !Cancelled(first);
  TANDEM_RETURN_IF_ERROR(last ? WaitForEnd(pass, deadline)
                              : timeline_.Wait(jobs_done_ + 1, deadline));
  ++jobs_done_;
  seconds_ahead_ -= pass.jobs[pass.done++].seconds;
  if (last) times_.Ended(pass.run, Clock::Real().Uptime());
  if (jobs_done_ == jobs_sent_) seconds_ahead_ = 0;
  return SendJobs();
}

// Which of several steps that were under way had the failure is not known: it meets all of them.
absl::Status VulkanProgram::ResultOf(const Pass& pass) {
  if (!pass.chained) return absl::OkStatus();
  if (chain_lost_ == 0) {
    chain_lost_ = *reinterpret_cast<const std::uint32_t*>(memory_.chain_report.data());
    if (chain_lost_ == 0) return absl::OkStatus();
    context_.chain->AddFailure();
    spdlog::error(
        "device \"{}\": dispatch {} of a chain was waited for in vain; from now on dispatches "
        "follow each other with barriers, which is slower (--gpu_chaining=off does so from the "
        "start)",
        context_.device.physical().name, chain_lost_);
  }
  return absl::AbortedError(Cat("dispatch ", chain_lost_, " of a chain was waited for in vain"));
}

absl::Status VulkanProgram::Wait(Ticket ticket, Deadline deadline) {
  TANDEM_RETURN_IF_ERROR(submissions_.CheckTicket(ticket));
  while (submissions_.first_open() <= ticket.value) {
    const std::uint64_t first = submissions_.first_open();
    const std::int32_t stage = submissions_.StageOf(first);
    const Pass& pass = PassOf(first);
    absl::Status status = broken_;
    while (status.ok() && pass.done < pass.jobs.size()) status = WaitForJob(deadline);
    if (absl::IsDeadlineExceeded(status)) return Annotate(status, submissions_.StageName(stage));
    if (!status.ok()) {
      broken_ = status;
      return Annotate(status, submissions_.StageName(stage));
    }
    submissions_.CloseFirst(Cancelled(first) ? absl::CancelledError(Cat(
                                                   submissions_.StageName(stage), " was cancelled"))
                                             : ResultOf(pass));
  }
  return submissions_.ResultOf(ticket.value);
}

void VulkanProgram::Cancel() {
  const std::uint64_t last = submissions_.last();
  // Of two that call at once the later ticket counts.
  std::uint64_t before = cancel_ticket_.load(std::memory_order_relaxed);
  while (before < last && !cancel_ticket_.compare_exchange_weak(before, last)) {
  }
}

std::span<const float> VulkanProgram::logits(std::int32_t context) const {
  const std::int32_t rows = submissions_.LogitRows(context);
  if (rows == 0) return {};
  const absl::StatusOr<std::span<const float>> logits =
      readback_->Logits(context_.device, memory_, context, static_cast<std::uint32_t>(rows));
  if (logits.ok()) return *logits;
  spdlog::error("logits: {}", logits.status().ToString());
  return {};
}

std::span<const float> VulkanProgram::hidden_states(std::int32_t context) const {
  const std::int32_t rows = submissions_.HiddenRows(context);
  if (rows == 0) return {};
  const vulkan::Buffer& buffer = memory_.hidden_states[static_cast<std::size_t>(context)];
  return {reinterpret_cast<const float*>(buffer.data()),
          static_cast<std::size_t>(rows) * static_cast<std::size_t>(config_.hidden_size)};
}

std::optional<LogitCandidates> VulkanProgram::candidates(std::int32_t context, std::int32_t row,
                                                         CandidateMemory* memory) const {
  if (row < 0 || row >= submissions_.LogitRows(context)) return std::nullopt;
  return LogitReadback::Candidates(memory_, context, row, memory);
}

}  // namespace tandem
