#include "lib/device/conformance/model_runner.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <random>
#include <utility>

#include "lib/base/dma_buf.h"
#include "lib/base/status_macros.h"
#include "lib/device/kv_blocks.h"

namespace tandem {
namespace {

std::vector<std::int32_t> ShuffledBlocks(std::int32_t count, std::uint32_t seed) {
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(count));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(blocks.begin(), blocks.end(), random);
  return blocks;
}

constexpr absl::Duration kStepTimeout = absl::Minutes(5);

}  // namespace

std::vector<StageSpec> OneStagePerHalf(const ModelConfig& config) {
  std::vector<StageSpec> stages = {{.embed = true}};
  for (std::int32_t half = 0; half < 2 * config.num_layers; ++half) {
    stages.push_back({.first_half = half, .last_half = half + 1});
  }
  stages.push_back(
      {.first_half = 2 * config.num_layers, .last_half = 2 * config.num_layers, .head = true});
  return stages;
}

std::vector<StageSpec> AttentionApart(const ModelConfig& config) {
  std::vector<StageSpec> stages = {{.embed = true}};
  AttentionCut begin = AttentionCut::kNone;
  std::int32_t first = 0;
  for (std::int32_t half = 0; half < 2 * config.num_layers; half += 2) {
    stages.push_back({.first_half = first,
                      .last_half = half + 1,
                      .begin = begin,
                      .end = AttentionCut::kProjected});
    stages.push_back({.first_half = half,
                      .last_half = half + 1,
                      .begin = AttentionCut::kProjected,
                      .end = AttentionCut::kAttended});
    begin = AttentionCut::kAttended;
    first = half;
  }
  const std::int32_t halves = 2 * config.num_layers;
  stages.push_back({.first_half = first, .last_half = halves, .begin = begin});
  stages.push_back({.first_half = halves, .last_half = halves, .head = true});
  return stages;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Make(
    Device* device, const ModelConfig& config,
    const std::vector<std::shared_ptr<const Region>>& regions, const RunnerOptions& options) {
  auto runner = std::unique_ptr<ModelRunner>(new ModelRunner());
  runner->config_ = config;
  runner->options_ = options;
  if (runner->options_.stages.empty()) {
    runner->options_.stages = {
        {.embed = true, .first_half = 0, .last_half = 2 * config.num_layers, .head = true}};
  }
  for (const auto& region : regions) {
    TANDEM_ASSIGN_OR_RETURN(auto weights, device->Import(region, config));
    runner->weights_.push_back(std::move(weights));
  }
  KvCacheSpec kv;
  kv.layers.resize(static_cast<std::size_t>(config.num_layers));
  std::iota(kv.layers.begin(), kv.layers.end(), 0);
  kv.global_blocks = options.limits.max_sequences * options.limits.max_blocks_per_sequence;
  kv.window_blocks = kv.global_blocks;
  kv.type = options.kv_type;
  TANDEM_ASSIGN_OR_RETURN(runner->cache_, device->CreateKvCache(config, kv));
  runner->free_global_ = ShuffledBlocks(kv.global_blocks, options.block_seed);
  runner->free_window_ = ShuffledBlocks(kv.window_blocks, options.block_seed + 1);
  TANDEM_RETURN_IF_ERROR(runner->MakeResiduals(device));

  ProgramSpec program;
  const auto& specs = runner->options_.stages;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const bool first = i == 0 || specs[i].embed;
    const bool last = i + 1 == specs.size() || specs[i].head;
    program.stages.push_back({specs[i], first ? nullptr : runner->residuals_[i - 1].get(),
                              last ? nullptr : runner->residuals_[i].get(),
                              i == 0 ? options.first_stage_tokens : 0});
  }
  program.weights = runner->weights_;
  program.kv_cache = runner->cache_.get();
  program.limits = options.limits;
  program.activations = options.activations;
  program.contexts = options.contexts;
  TANDEM_ASSIGN_OR_RETURN(runner->program_, device->Compile(config, program));
  return runner;
}

absl::Status ModelRunner::MakeResiduals(Device* device) {
  for (std::size_t i = 0; i + 1 < options_.stages.size(); ++i) {
    const ResidualLayout layout =
        MakeResidualLayout(std::max(2, options_.contexts), options_.limits.max_tokens,
                           std::max(OutputColumns(config_, options_.stages[i]),
                                    InputColumns(config_, options_.stages[i + 1])));
    if (options_.export_residuals) {
      UniqueFd fd;
      TANDEM_ASSIGN_OR_RETURN(auto residual,
                              device->ExportResidual(HandleKind::kDmaBuf, layout, &fd));
      residuals_.push_back(std::move(residual));
      TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                              SharedMemory::Take(std::move(fd), layout.total_bytes()));
      TANDEM_RETURN_IF_ERROR(memory.Map(/*writable=*/true));
      shared_.push_back(std::move(memory));
      continue;
    }
    if (!options_.import_residuals) {
      TANDEM_ASSIGN_OR_RETURN(auto residual, device->CreateResidual(layout));
      residuals_.push_back(std::move(residual));
      continue;
    }
    const std::uint64_t bytes = layout.total_bytes();
    TANDEM_ASSIGN_OR_RETURN(SharedMemory memory, *options_.import_residuals == HandleKind::kDmaBuf
                                                     ? AllocateDmaBuf("conformance", bytes)
                                                     : SharedMemory::Create("conformance", bytes));
    if (memory.kind == MemoryKind::kMemfd) TANDEM_RETURN_IF_ERROR(SealSize(memory.fd.get()));
    UniqueFd fd(::fcntl(memory.fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!fd.valid()) return absl::ErrnoToStatus(errno, "duplicating a descriptor");
    TANDEM_ASSIGN_OR_RETURN(
        auto residual, device->ImportResidual(*options_.import_residuals, std::move(fd), layout));
    residuals_.push_back(std::move(residual));
    shared_.push_back(std::move(memory));
  }
  return absl::OkStatus();
}

void ModelRunner::GrowTables(Sequence* sequence, std::int32_t end) {
  const auto blocks = static_cast<std::size_t>((end + kKvBlockTokens - 1) / kKvBlockTokens);
  while (sequence->global_blocks.size() < blocks) {
    sequence->global_blocks.push_back(free_global_.back());
    free_global_.pop_back();
    sequence->window_blocks.push_back(free_window_.back());
    free_window_.pop_back();
  }
  // Blocks that no query from here on sees go back and are given out next: a device that reads them
  // finds another sequence there.
  const std::int32_t seen = std::max(0, sequence->length - config_.sliding_window + 1);
  for (std::int32_t i = 0; i < seen / kKvBlockTokens; ++i) {
    std::int32_t& block = sequence->window_blocks[static_cast<std::size_t>(i)];
    if (block != kNoBlock) free_window_.push_back(std::exchange(block, kNoBlock));
  }
}

const tandem::Step& ModelRunner::Prepare(std::span<const RunnerShare> shares) {
  step_tokens_.clear();
  step_sequences_.clear();
  step_rows_.clear();
  for (const RunnerShare& share : shares) {
    Sequence& sequence = sequences_[share.slot];
    const auto count = static_cast<std::int32_t>(share.tokens.size());
    GrowTables(&sequence, sequence.length + count);
    step_sequences_.push_back({.slot = share.slot,
                               .first_token = static_cast<std::int32_t>(step_tokens_.size()),
                               .num_tokens = count,
                               .first_position = sequence.length,
                               .global_blocks = sequence.global_blocks,
                               .window_blocks = sequence.window_blocks});
    step_tokens_.insert(step_tokens_.end(), share.tokens.begin(), share.tokens.end());
  }
  step_rows_.resize(step_tokens_.size());
  std::iota(step_rows_.begin(), step_rows_.end(), 0);
  step_ = {next_step_++, step_tokens_, step_sequences_, step_rows_};
  step_.hidden_states = options_.hidden_states;
  return step_;
}

void ModelRunner::Commit() {
  for (const StepSequence& share : step_sequences_)
    sequences_[share.slot].length += share.num_tokens;
}

void ModelRunner::Rewind(std::int32_t slot, std::int32_t tokens) {
  Sequence& sequence = sequences_[slot];
  TANDEM_CHECK(tokens <= sequence.length);
  sequence.length -= tokens;
}

absl::Status ModelRunner::HandOver(std::int32_t slot, ModelRunner* to) {
  const Sequence& from = sequences_.at(slot);
  TANDEM_CHECK(!to->sequences_.contains(slot));
  Sequence& into = to->sequences_[slot];
  into.length = from.length;
  std::vector<std::int32_t> window_from, window_into;
  for (std::size_t i = 0; i < from.global_blocks.size(); ++i) {
    into.global_blocks.push_back(to->free_global_.back());
    to->free_global_.pop_back();
    const bool left = from.window_blocks[i] == kNoBlock;
    into.window_blocks.push_back(left ? kNoBlock : to->free_window_.back());
    if (left) continue;
    to->free_window_.pop_back();
    window_from.push_back(from.window_blocks[i]);
    window_into.push_back(into.window_blocks[i]);
  }
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          ShareKvBlocks(config_, cache_.get(), {from.global_blocks, window_from}));
  return TakeKvBlocks(to->config_, to->cache_.get(), {into.global_blocks, window_into},
                      std::move(memory.fd));
}

void ModelRunner::End(std::int32_t slot) {
  const auto found = sequences_.find(slot);
  if (found == sequences_.end()) return;
  for (const std::int32_t block : found->second.global_blocks) free_global_.push_back(block);
  for (const std::int32_t block : found->second.window_blocks) {
    if (block != kNoBlock) free_window_.push_back(block);
  }
  sequences_.erase(found);
}

absl::Status ModelRunner::RunStage(std::int32_t stage, std::int32_t context,
                                   std::int32_t input_slot, std::int32_t output_slot) {
  TANDEM_ASSIGN_OR_RETURN(const Ticket ticket,
                          program_->Submit(stage, context, input_slot, output_slot));
  return program_->Wait(ticket, Deadline::After(kStepTimeout));
}

absl::Status ModelRunner::RunAll(const tandem::Step& step, std::int32_t context,
                                 std::int32_t slot) {
  TANDEM_RETURN_IF_ERROR(program_->Begin(context, step));
  for (std::int32_t i = 0; i < stages(); ++i) {
    TANDEM_RETURN_IF_ERROR(RunStage(i, context, slot, slot));
  }
  return absl::OkStatus();
}

// Contexts and slots take turns, so that every test goes through all of them.
absl::Status ModelRunner::RunNext(std::span<const RunnerShare> shares, std::vector<float>* logits) {
  const tandem::Step& step = Prepare(shares);
  const auto context =
      static_cast<std::int32_t>(step.id % static_cast<std::uint64_t>(program_->contexts()));
  TANDEM_RETURN_IF_ERROR(RunAll(step, context, static_cast<std::int32_t>(step.id % 2)));
  Commit();
  const std::span<const float> found = program_->logits(context);
  logits->insert(logits->end(), found.begin(), found.end());
  const std::span<const float> states = program_->hidden_states(context);
  hidden_states_.insert(hidden_states_.end(), states.begin(), states.end());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ModelRunner::Step(std::span<const RunnerShare> shares) {
  std::vector<float> logits;
  TANDEM_RETURN_IF_ERROR(RunNext(shares, &logits));
  return logits;
}

absl::StatusOr<std::vector<float>> ModelRunner::Prefill(std::int32_t slot,
                                                        std::span<const std::int32_t> tokens,
                                                        std::int32_t chunk) {
  std::vector<float> logits;
  while (!tokens.empty()) {
    const std::size_t count = std::min(tokens.size(), static_cast<std::size_t>(chunk));
    const RunnerShare share{slot,
                            {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count)}};
    TANDEM_RETURN_IF_ERROR(RunNext({&share, 1}, &logits));
    tokens = tokens.subspan(count);
  }
  return logits;
}

std::span<const float> ModelRunner::residual_memory(std::size_t index) const {
  const Mapping& mapping = shared_[index].mapping;
  return {reinterpret_cast<const float*>(mapping.data()), mapping.size() / sizeof(float)};
}

}  // namespace tandem
