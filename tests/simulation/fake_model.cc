#include "tests/simulation/fake_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/plan.h"

namespace tandem {
namespace {

std::uint64_t Hash(std::span<const std::int32_t> history, std::uint64_t seed) {
  std::uint64_t h = 0xcbf29ce484222325u ^ (seed * 0x9e3779b97f4a7c15u);
  for (const std::int32_t token : history)
    h = (h ^ static_cast<std::uint32_t>(token)) * 0x100000001b3u;
  h ^= h >> 31;
  h *= 0xbf58476d1ce4e5b9u;
  return h ^ (h >> 29);
}

}  // namespace

SampledToken FakeModel::Next(std::span<const std::int32_t> history,
                             const SamplingParams& sampling) const {
  const std::uint64_t h = Hash(history, sampling.seed);
  SampledToken out;
  out.token = (h >> 40) % static_cast<std::uint64_t>(eos_in) == 0
                  ? eos_id
                  : 2 + static_cast<std::int32_t>(h % static_cast<std::uint64_t>(vocab_size - 2));
  out.logprob = -static_cast<float>(h % 1000) / 100.0f;
  for (std::int32_t i = 0; i < sampling.num_logprobs; ++i)
    out.top.push_back({(out.token + i) % vocab_size, out.logprob - 1.0f});
  return out;
}

std::vector<std::int32_t> FakeModel::Forced(std::vector<std::int32_t> history,
                                            const SamplingParams& sampling) const {
  std::vector<std::int32_t> forced;
  if (sampling.constraint == nullptr) return forced;
  const std::uint64_t h = Hash(history, sampling.seed + 1);
  const std::uint64_t count = h % 3 != 0 ? 0 : h % 7 == 0 ? 40 : 1 + h / 3 % 6;
  while (forced.size() < count) {
    const std::int32_t token = Next(history, sampling).token;
    if (token == eos_id) break;
    forced.push_back(token);
    history.push_back(token);
  }
  return forced;
}

SampledToken FakeModel::Score(std::span<const std::int32_t> history, std::int32_t token) const {
  SampledToken out;
  out.token = token;
  out.logprob =
      -static_cast<float>(Hash(history, static_cast<std::uint64_t>(token)) % 1000) / 100.0f;
  return out;
}

void FakeModel::AddHiddenState(std::span<const std::int32_t> history,
                               std::vector<double>* sum) const {
  sum->resize(static_cast<std::size_t>(hidden_size));
  std::uint64_t h = Hash(history, 17);
  for (double& value : *sum) {
    value += static_cast<double>(h % 1000);
    h /= 1000;
  }
}

FakeText Expect(const FakeModel& model, const GenerationRequest& request) {
  FakeText text;
  std::vector<std::int32_t> history = request.prompt;
  if (request.score_prompt) {
    for (std::size_t i = 1; i < history.size(); ++i) {
      text.scores.push_back(model.Score(std::span(history).first(i), history[i]));
    }
  }
  if (request.pool_prompt) {
    std::vector<double> sums;
    for (std::size_t i = 1; i <= history.size(); ++i)
      model.AddHiddenState(std::span(history).first(i), &sums);
    for (const double sum : sums)
      text.pooled.push_back(static_cast<float>(sum / static_cast<double>(history.size())));
  }
  for (std::int32_t i = 0; i < request.max_tokens; ++i) {
    const std::int32_t token = model.Next(history, request.sampling).token;
    if (token == model.eos_id && !request.ignore_eos) {
      text.reason = FinishReason::kStop;
      break;
    }
    text.tokens.push_back(token);
    history.push_back(token);
  }
  return text;
}

std::uint64_t PoisonedSeed(std::uint64_t seed, Poison poison) {
  return (seed & 0xffff'ffff) | static_cast<std::uint64_t>(poison.kind) << 60 |
         static_cast<std::uint64_t>(poison.position) << 32;
}

Poison PoisonOf(std::uint64_t seed) {
  return {static_cast<Poison::Kind>(seed >> 60), static_cast<std::int32_t>(seed >> 32 & 0xff'ffff)};
}

FakeWorkerState::FakeWorkerState(FakeModel model, StepLimits limits, std::int32_t sliding_window,
                                 std::int32_t global_blocks, std::int32_t window_blocks)
    : model_(model),
      limits_(limits),
      sliding_window_(sliding_window),
      global_(static_cast<std::size_t>(global_blocks)),
      window_(static_cast<std::size_t>(window_blocks)) {}

absl::Status FakeWorkerState::Enter(const StepPlan& plan) {
  if (plan.step_id != last_step_ + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("step_id: expected ", last_step_ + 1, ", found ", plan.step_id));
  }
  last_step_ = plan.step_id;
  for (const std::int32_t slot : plan.ends) {
    if (slots_.erase(slot) != 1)
      return absl::InvalidArgumentError(absl::StrCat("ends: slot ", slot, " is not taken"));
  }
  for (const SequenceStart& start : plan.starts) {
    if (start.slot < 0 || start.slot >= limits_.max_sequences || slots_.contains(start.slot)) {
      return absl::InvalidArgumentError(
          absl::StrCat("starts: slot ", start.slot, " is taken or out of range"));
    }
    slots_[start.slot].sampling = start.sampling;
  }
  std::int32_t tokens = 0;
  std::int32_t rows = 0;
  for (const SequenceShare& share : plan.sequences) {
    const std::int32_t count = static_cast<std::int32_t>(share.tokens.size());
    tokens += count;
    rows += share.score ? count : (share.sample ? 1 : 0);
    if (count == 0)
      return absl::InvalidArgumentError(absl::StrCat("slot ", share.slot, ": no tokens"));
  }
  const std::int32_t most =
      plan.route == kDecodeRoute ? limits_.decode_tokens() : limits_.max_tokens;
  if (tokens < 1 || tokens > most || rows > limits_.max_logit_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("step of ", tokens, " tokens and ", rows, " logit rows"));
  }
  std::int32_t last = 0;
  for (const std::int32_t end : plan.micro_batch_ends) {
    if (end <= last) return absl::InvalidArgumentError("an empty micro-batch");
    last = end;
  }
  if (last != 0 && last != tokens)
    return absl::InvalidArgumentError("micro-batches do not end with the step");
  return absl::OkStatus();
}

absl::Status FakeWorkerState::CheckPoison(const StepPlan& plan, bool sometimes) {
  for (const SequenceShare& share : plan.sequences) {
    const auto it = slots_.find(share.slot);
    if (it == slots_.end())
      return absl::InvalidArgumentError(absl::StrCat("slot ", share.slot, " has not started"));
    const Poison poison = PoisonOf(it->second.sampling.seed);
    const std::int32_t end = share.first_position + static_cast<std::int32_t>(share.tokens.size());
    if (poison.kind == Poison::Kind::kNone || end <= poison.position) continue;
    if (poison.kind == Poison::Kind::kSometimes) {
      if (sometimes) return absl::InternalError("poisoned now and then");
      continue;
    }
    if (share.first_position > poison.position) continue;
    if (poison.kind == Poison::Kind::kStep) return absl::InternalError("poisoned");
    if (poison.kind == Poison::Kind::kCrash) return absl::UnavailableError("crashed");
    it->second.spoiled = true;
  }
  return absl::OkStatus();
}

absl::Status FakeWorkerState::TakeBlocks(const SequenceShare& share) {
  Slot& slot = slots_.at(share.slot);
  if (share.first_position != slot.length) {
    return absl::InvalidArgumentError(absl::StrCat("slot ", share.slot,
                                                   ": first_position: expected ", slot.length,
                                                   ", found ", share.first_position));
  }
  slot.global_blocks.insert(slot.global_blocks.end(), share.new_global_blocks.begin(),
                            share.new_global_blocks.end());
  slot.window_blocks.insert(slot.window_blocks.end(), share.new_window_blocks.begin(),
                            share.new_window_blocks.end());
  for (std::int32_t i = 0; i < share.window_blocks_left; ++i)
    slot.window_blocks.at(static_cast<std::size_t>(i)) = -1;
  if (static_cast<std::int32_t>(slot.global_blocks.size()) > limits_.max_blocks_per_sequence) {
    return absl::InvalidArgumentError(
        absl::StrCat("slot ", share.slot, ": ", slot.global_blocks.size(), " blocks"));
  }
  return absl::OkStatus();
}

absl::Status FakeWorkerState::Write(const Portion& portion) {
  Slot& slot = slots_.at(portion.share->slot);
  if (portion.begin == 0) TANDEM_RETURN_IF_ERROR(TakeBlocks(*portion.share));
  for (std::size_t i = portion.begin; i < portion.end; ++i) {
    std::int32_t token = portion.share->tokens[i];
    if (token == kSampledToken && i == 0 && slot.sampled.has_value()) token = *slot.sampled;
    if (token < 0 || token >= model_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot ", portion.share->slot, ": token ", i, " is ", token));
    }
    const std::size_t block = static_cast<std::size_t>(slot.length / kKvBlockTokens);
    const std::size_t offset = static_cast<std::size_t>(slot.length % kKvBlockTokens);
    if (block >= slot.global_blocks.size() || block >= slot.window_blocks.size() ||
        slot.window_blocks[block] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot ", portion.share->slot, ": no block for position ", slot.length));
    }
    const Cell cell{slot.length, token};
    global_.at(static_cast<std::size_t>(slot.global_blocks[block]))[offset] = cell;
    window_.at(static_cast<std::size_t>(slot.window_blocks[block]))[offset] = cell;
    ++slot.length;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int32_t>> FakeWorkerState::Read(const Slot& slot,
                                                                std::int32_t first_query) const {
  std::vector<std::int32_t> history;
  for (std::int32_t position = 0; position < slot.length; ++position) {
    const std::size_t block = static_cast<std::size_t>(position / kKvBlockTokens);
    const std::size_t offset = static_cast<std::size_t>(position % kKvBlockTokens);
    const Cell& cell = global_.at(static_cast<std::size_t>(slot.global_blocks.at(block)))[offset];
    if (cell.position != position)
      return absl::InvalidArgumentError(absl::StrCat("global block lost position ", position));
    history.push_back(cell.token);
    if (position <= first_query - sliding_window_) continue;
    if (slot.window_blocks.at(block) < 0 ||
        window_.at(static_cast<std::size_t>(slot.window_blocks[block]))[offset] != cell) {
      return absl::InvalidArgumentError(absl::StrCat("window block lost position ", position));
    }
  }
  return history;
}

absl::Status FakeWorkerState::Compute(const Portion& portion, SequenceResult* result) {
  const SequenceShare& share = *portion.share;
  Slot& slot = slots_.at(share.slot);
  const auto first = static_cast<std::size_t>(share.first_position);
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::int32_t> history,
                          Read(slot, static_cast<std::int32_t>(first + portion.begin)));
  for (std::size_t i = portion.begin; share.score && i < portion.end; ++i) {
    const std::int32_t next = i + 1 < share.tokens.size() ? share.tokens[i + 1] : share.next_token;
    if (next >= 0)
      result->scored.push_back(model_.Score(std::span(history).first(first + i + 1), next));
  }
  for (std::size_t i = portion.begin; share.pool && i < portion.end; ++i)
    model_.AddHiddenState(std::span(history).first(first + i + 1), &result->pooled);
  if (portion.end < share.tokens.size()) return absl::OkStatus();
  slot.sampled.reset();
  if (!share.sample) return absl::OkStatus();
  result->sampled = model_.Next(history, slot.sampling);
  slot.sampled = result->sampled->token;
  std::vector<std::int32_t> with_sampled = history;
  with_sampled.push_back(result->sampled->token);
  result->forced = model_.Forced(std::move(with_sampled), slot.sampling);
  return absl::OkStatus();
}

absl::StatusOr<StepResult> FakeWorkerState::Run(const StepPlan& plan, bool sometimes) {
  TANDEM_RETURN_IF_ERROR(Enter(plan));
  TANDEM_RETURN_IF_ERROR(CheckPoison(plan, sometimes));
  StepResult result;
  result.step_id = plan.step_id;
  std::size_t share = 0;
  std::size_t begin = 0;
  std::size_t done = 0;
  const std::size_t batches = std::max<std::size_t>(1, plan.micro_batch_ends.size());
  result.sequences.resize(plan.sequences.size());
  for (std::size_t m = 0; m < batches; ++m) {
    std::vector<Portion> portions;
    std::vector<std::size_t> owners;
    const std::size_t most = plan.micro_batch_ends.empty()
                                 ? SIZE_MAX
                                 : static_cast<std::size_t>(plan.micro_batch_ends[m]);
    while (share < plan.sequences.size() && done < most) {
      const std::size_t size = plan.sequences[share].tokens.size();
      const std::size_t end = std::min(size, begin + (most - done));
      portions.push_back({&plan.sequences[share], begin, end});
      owners.push_back(share);
      done += end - begin;
      begin = end == size ? 0 : end;
      share += end == size ? 1 : 0;
    }
    for (const Portion& portion : portions) TANDEM_RETURN_IF_ERROR(Write(portion));
    for (std::size_t i = 0; i < portions.size(); ++i)
      TANDEM_RETURN_IF_ERROR(Compute(portions[i], &result.sequences[owners[i]]));
  }
  for (std::size_t i = 0; i < plan.sequences.size(); ++i) {
    SequenceResult& out = result.sequences[i];
    out.slot = plan.sequences[i].slot;
    if (!slots_.at(out.slot).spoiled) continue;
    out = {};
    out.slot = plan.sequences[i].slot;
    out.status = absl::InvalidArgumentError("this one is poisoned");
  }
  std::erase_if(result.sequences, [&](const SequenceResult& out) {
    return out.status.ok() && !out.sampled.has_value() && out.scored.empty() && out.pooled.empty();
  });
  return result;
}

}  // namespace tandem
