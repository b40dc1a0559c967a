#include "lib/worker/slot_table.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/plan.h"

namespace tandem {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("step: ", parts...));
}

std::int32_t Count(const std::vector<std::int32_t>& values) {
  return static_cast<std::int32_t>(values.size());
}

// The rows of a share whose logits are wanted: all that score, and the last one when it samples.
std::int64_t LogitRows(const SequenceShare& share) {
  if (!share.score) return share.sample ? 1 : 0;
  return Count(share.tokens) - (share.next_token < 0 && !share.sample ? 1 : 0);
}

// The micro-batch that ends at the batch's present end, after `before`.
MicroBatch CloseMicroBatch(const StepBatch& batch, const MicroBatch* before) {
  MicroBatch closed;
  if (before != nullptr) {
    closed.first_token = before->first_token + before->num_tokens;
    closed.first_sequence = before->first_sequence + before->num_sequences;
    closed.first_use = before->first_use + before->num_uses;
    closed.first_pool = before->first_pool + before->num_pools;
  }
  closed.num_tokens = Count(batch.tokens) - closed.first_token;
  closed.num_sequences = static_cast<std::int32_t>(batch.sequences.size()) - closed.first_sequence;
  closed.num_uses = static_cast<std::int32_t>(batch.uses.size()) - closed.first_use;
  closed.num_pools = static_cast<std::int32_t>(batch.pools.size()) - closed.first_pool;
  return closed;
}

void Close(StepBatch* batch) {
  const MicroBatch* before = batch->micro_batches.empty() ? nullptr : &batch->micro_batches.back();
  const MicroBatch closed = CloseMicroBatch(*batch, before);
  batch->micro_batches.push_back(closed);
}

template <typename T>
std::span<const T> Part(const std::vector<T>& values, std::int32_t first, std::int32_t count) {
  return std::span(values).subspan(static_cast<std::size_t>(first),
                                   static_cast<std::size_t>(count));
}

}  // namespace

Step StepBatch::step(std::int32_t micro_batch) const {
  const MicroBatch& part = micro_batches[static_cast<std::size_t>(micro_batch)];
  return {id,
          Part(tokens, part.first_token, part.num_tokens),
          Part(sequences, part.first_sequence, part.num_sequences),
          Part(logit_rows, part.first_use, part.num_uses),
          Part(inverse_temperatures, part.first_use, part.num_uses),
          part.num_pools > 0};
}

void SlotTable::Slot::Reset() {
  active = spoiled = sampled = false;
  last_token = next_position = window_left = 0;
  generated_end = -1;
  fault = head_fault = absl::OkStatus();
  sampling = {};
  counts.Clear();
  global_table.clear();
  window_table.clear();
}

SlotTable::SlotTable(SlotBounds bounds)
    : bounds_(std::move(bounds)),
      slots_(static_cast<std::size_t>(bounds_.limits.max_sequences)),
      views_(static_cast<std::size_t>(bounds_.limits.max_sequences)) {
  for (const bool global : bounds_.config.layer_is_global)
    (global ? has_global_ : has_window_) = true;
  const auto blocks = static_cast<std::size_t>(bounds_.limits.max_blocks_per_sequence);
  for (Slot& slot : slots_) {
    slot.global_table.reserve(blocks);
    slot.window_table.reserve(blocks);
    if (!bounds_.head) continue;
    slot.counts.Reserve(std::min<std::size_t>(blocks * kKvBlockTokens,
                                              static_cast<std::size_t>(bounds_.config.vocab_size)));
  }
}

absl::Status SlotTable::CheckSlotNumber(absl::string_view field, std::int32_t slot) const {
  if (slot >= 0 && slot < bounds_.limits.max_sequences) return absl::OkStatus();
  return Invalid(field, ": expected a slot in [0, ", bounds_.limits.max_sequences, "), found ",
                 slot);
}

absl::Status SlotTable::CheckPlan(const StepPlan& plan) {
  if (plan.sequences.empty() && plan.ends.empty() && plan.starts.empty())
    return Invalid("expected something to do, found nothing");
  for (std::size_t i = 0; i < slots_.size(); ++i) views_[i] = {slots_[i].active, false, false};
  for (const std::int32_t slot : plan.ends) {
    TANDEM_RETURN_IF_ERROR(CheckSlotNumber("ends", slot));
    views_[static_cast<std::size_t>(slot)].active = false;
  }
  for (const SequenceStart& start : plan.starts) {
    TANDEM_RETURN_IF_ERROR(CheckSlotNumber("starts", start.slot));
    View& view = views_[static_cast<std::size_t>(start.slot)];
    if (view.active)
      return Invalid("starts: expected a free slot, found slot ", start.slot, " taken");
    view.active = view.fresh = true;
  }
  for (const SequenceShare& share : plan.sequences) {
    TANDEM_RETURN_IF_ERROR(CheckSlotNumber("sequences", share.slot));
    View& view = views_[static_cast<std::size_t>(share.slot)];
    if (view.shared)
      return Invalid("sequences: expected each slot once, found slot ", share.slot, " twice");
    view.shared = true;
    if (view.active && !view.fresh && At(share.slot).spoiled) {
      return absl::FailedPreconditionError(
          absl::StrCat("step: slot ", share.slot,
                       " took part in a step that failed: end it and start it again"));
    }
  }
  return CheckSums(plan);
}

absl::Status SlotTable::CheckSums(const StepPlan& plan) const {
  std::int64_t tokens = 0;
  std::int64_t rows = 0;
  for (const SequenceShare& share : plan.sequences) {
    tokens += Count(share.tokens);
    rows += LogitRows(share);
  }
  const StepLimits& limits = bounds_.limits;
  const std::int32_t most = plan.route == kDecodeRoute ? limits.decode_tokens() : limits.max_tokens;
  if (tokens > most) return Invalid("expected at most ", most, " tokens, found ", tokens);
  if (rows > bounds_.limits.max_logit_rows) {
    return Invalid("expected at most ", bounds_.limits.max_logit_rows,
                   " rows that sample or score, found ", rows);
  }
  const std::vector<std::int32_t>& ends = plan.micro_batch_ends;
  if (ends.empty()) return absl::OkStatus();
  if (Count(ends) > bounds_.max_micro_batches) {
    return Invalid("micro_batch_ends: expected at most ", bounds_.max_micro_batches, ", found ",
                   ends.size());
  }
  std::int32_t before = 0;
  for (const std::int32_t end : ends) {
    if (end <= before)
      return Invalid("micro_batch_ends: expected more than ", before, ", found ", end);
    before = end;
  }
  if (before != tokens)
    return Invalid("micro_batch_ends: expected the last to be ", tokens, ", found ", before);
  return absl::OkStatus();
}

void SlotTable::Start(const SequenceStart& start) {
  Slot& slot = At(start.slot);
  slot.Reset();
  slot.active = true;
  slot.fault = ValidateSamplingParams(start.sampling, bounds_.config.vocab_size);
  for (const std::int32_t token : start.generated) {
    if (token >= 0 && token < bounds_.config.vocab_size) continue;
    slot.fault = Invalid("starts: slot ", start.slot, ": generated: expected tokens in [0, ",
                         bounds_.config.vocab_size, "), found ", token);
  }
  if (!slot.fault.ok() || !bounds_.head) return;
  slot.sampling = start.sampling;
  for (const std::int32_t token : start.generated) slot.counts.Add(token);
}

absl::Status SlotTable::CheckTokens(const SequenceShare& share, const Slot& slot) const {
  const std::int32_t vocab = bounds_.config.vocab_size;
  if (share.tokens.empty())
    return Invalid("slot ", share.slot, ": tokens: expected at least one, found none");
  for (std::size_t i = 0; i < share.tokens.size(); ++i) {
    const std::int32_t token = share.tokens[i];
    if (token == kSampledToken && i == 0 && slot.sampled) continue;
    if (token == kSampledToken) {
      return Invalid("slot ", share.slot, ": token ", i,
                     ": -1 stands for the last sampled token, and there is none at this position");
    }
    if (token < 0 || token >= vocab) {
      return Invalid("slot ", share.slot, ": token ", i, ": expected an id in [0, ", vocab,
                     "), found ", token);
    }
  }
  if (share.score && (share.next_token < -1 || share.next_token >= vocab)) {
    return Invalid("slot ", share.slot, ": next_token: expected -1 or an id in [0, ", vocab,
                   "), found ", share.next_token);
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckBlocks(const SequenceShare& share, const Slot& slot) const {
  const auto check = [&](const char* name, const std::vector<std::int32_t>& blocks, std::size_t had,
                         std::int32_t limit, std::int64_t needed) -> absl::Status {
    for (const std::int32_t block : blocks) {
      if (block < 0 || block >= limit) {
        return Invalid("slot ", share.slot, ": ", name, ": expected blocks in [0, ", limit,
                       "), found ", block);
      }
    }
    const auto have = static_cast<std::int64_t>(had + blocks.size());
    if (have < needed || have > bounds_.limits.max_blocks_per_sequence) {
      return Invalid("slot ", share.slot, ": ", name, ": expected ", needed, " to ",
                     bounds_.limits.max_blocks_per_sequence, " blocks in the table, found ", have);
    }
    return absl::OkStatus();
  };
  const std::int64_t end = std::int64_t{share.first_position} + Count(share.tokens);
  const std::int64_t blocks = (end + kKvBlockTokens - 1) / kKvBlockTokens;
  TANDEM_RETURN_IF_ERROR(check("new_global_blocks", share.new_global_blocks,
                               slot.global_table.size(), bounds_.global_blocks,
                               has_global_ ? blocks : 0));
  TANDEM_RETURN_IF_ERROR(check("new_window_blocks", share.new_window_blocks,
                               slot.window_table.size(), bounds_.window_blocks,
                               has_window_ ? blocks : 0));
  // The earliest key that the share's first query sees.
  const std::int64_t first_seen = std::max<std::int64_t>(
      0, std::int64_t{share.first_position} - bounds_.config.sliding_window + 1);
  const auto table =
      static_cast<std::int64_t>(slot.window_table.size() + share.new_window_blocks.size());
  const std::int64_t most = std::min(table, first_seen / kKvBlockTokens);
  if (share.window_blocks_left < slot.window_left || share.window_blocks_left > most) {
    return Invalid("slot ", share.slot, ": window_blocks_left: expected ", slot.window_left, " to ",
                   most, ", found ", share.window_blocks_left);
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckShare(const SequenceShare& share, const Slot& slot) const {
  if (!slot.active)
    return Invalid("sequences: expected a slot that was started, found slot ", share.slot);
  if (share.first_position != slot.next_position) {
    return Invalid("slot ", share.slot, ": first_position: expected ", slot.next_position,
                   ", found ", share.first_position);
  }
  if (bounds_.config.bidirectional && share.first_position != 0) {
    return Invalid(
        "slot ", share.slot,
        ": expected one share for a whole text, as the model sees it in both directions, "
        "found a second");
  }
  TANDEM_RETURN_IF_ERROR(CheckTokens(share, slot));
  return CheckBlocks(share, slot);
}

absl::Status SlotTable::Apply(const StepPlan& plan, StepBatch* batch, StepResult* result) {
  TANDEM_RETURN_IF_ERROR(CheckPlan(plan));
  for (const std::int32_t slot : plan.ends) At(slot).Reset();
  for (const SequenceStart& start : plan.starts) Start(start);
  batch->id = plan.step_id;
  batch->tokens.clear();
  batch->sequences.clear();
  batch->logit_rows.clear();
  batch->uses.clear();
  batch->pools.clear();
  batch->inverse_temperatures.clear();
  batch->micro_batches.clear();
  batch->forced.clear();
  result->sequences.clear();

  // Tokens of the plan so far, with those that are left out; the ends count them, too.
  std::int32_t at = 0;
  std::size_t next_end = 0;
  for (const SequenceShare& share : plan.sequences) {
    Slot& slot = At(share.slot);
    if (slot.fault.ok()) slot.fault = CheckShare(share, slot);
    const absl::Status& fault = slot.fault.ok() ? slot.head_fault : slot.fault;
    const auto answer = static_cast<std::int32_t>(result->sequences.size());
    if (!fault.ok() || (bounds_.head && (share.pool || LogitRows(share) > 0))) {
      result->sequences.emplace_back();
      result->sequences.back().slot = share.slot;
      result->sequences.back().status = fault;
    }
    if (slot.fault.ok()) {
      TakeForced(share, &slot, batch);
      ApplyShare(share, &slot);
    }
    for (std::int32_t begin = 0; begin < Count(share.tokens);) {
      std::int32_t end = Count(share.tokens);
      const bool cut =
          next_end < plan.micro_batch_ends.size() && plan.micro_batch_ends[next_end] <= at + end;
      if (cut) end = plan.micro_batch_ends[next_end++] - at;
      if (slot.fault.ok()) AddPart(share, begin, end, answer, batch);
      if (cut) Close(batch);
      begin = end;
    }
    at += Count(share.tokens);
  }
  if (plan.micro_batch_ends.empty()) Close(batch);
  return absl::OkStatus();
}

void SlotTable::ApplyShare(const SequenceShare& share, Slot* slot) {
  slot->global_table.insert(slot->global_table.end(), share.new_global_blocks.begin(),
                            share.new_global_blocks.end());
  slot->window_table.insert(slot->window_table.end(), share.new_window_blocks.begin(),
                            share.new_window_blocks.end());
  std::fill_n(slot->window_table.begin(), share.window_blocks_left, kNoBlock);
  slot->window_left = share.window_blocks_left;
  slot->next_position = share.first_position + Count(share.tokens);
  slot->sampled = share.sample;
}

void SlotTable::TakeForced(const SequenceShare& share, Slot* slot, StepBatch* batch) {
  if (!bounds_.head || slot->sampling.constraint == nullptr || slot->generated_end < 0) return;
  const std::int32_t end = share.first_position + Count(share.tokens);
  for (; slot->generated_end < end; ++slot->generated_end) {
    const std::int32_t token =
        share.tokens[static_cast<std::size_t>(slot->generated_end - share.first_position)];
    batch->forced.push_back({share.slot, token});
    slot->counts.Add(token);
  }
}

void SlotTable::AddPart(const SequenceShare& share, std::int32_t begin, std::int32_t end,
                        std::int32_t answer, StepBatch* batch) {
  const Slot& slot = At(share.slot);
  const MicroBatch open = CloseMicroBatch(
      *batch, batch->micro_batches.empty() ? nullptr : &batch->micro_batches.back());
  batch->sequences.push_back({share.slot, open.num_tokens, end - begin,
                              share.first_position + begin, slot.global_table, slot.window_table});
  if (share.pool && slot.head_fault.ok())
    batch->pools.push_back({share.slot, open.num_tokens, end - begin, answer});
  for (std::int32_t i = begin; i < end; ++i) {
    const std::int32_t token = share.tokens[static_cast<std::size_t>(i)];
    batch->tokens.push_back(token == kSampledToken ? slot.last_token : token);
    const std::size_t uses = batch->uses.size();
    if (slot.head_fault.ok()) AddUse(share, i, answer, batch);
    if (batch->uses.size() > uses) batch->logit_rows.push_back(open.num_tokens + i - begin);
  }
}

void SlotTable::AddUse(const SequenceShare& share, std::int32_t index, std::int32_t answer,
                       StepBatch* batch) {
  const bool last = index + 1 == Count(share.tokens);
  LogitUse use;
  if (share.score)
    use.score = last ? share.next_token : share.tokens[static_cast<std::size_t>(index) + 1];
  use.sample = last && share.sample;
  if (use.score < 0 && !use.sample) return;
  use.slot = share.slot;
  use.position = std::int64_t{share.first_position} + index + 1;
  use.answer = answer;
  batch->uses.push_back(use);
  // A temperature near 0 gives an infinity: nothing but the best token counts then.
  const float temperature = At(share.slot).sampling.temperature;
  const float inverse = temperature > 0 ? 1 / temperature : 1;
  batch->inverse_temperatures.push_back(std::min(inverse, std::numeric_limits<float>::max()));
}

void SlotTable::SetSampled(std::int32_t slot, std::int32_t token) {
  Slot& taken = At(slot);
  taken.last_token = token;
  // Where the next share's first token stands.
  taken.generated_end = taken.next_position + 1;
  taken.counts.Add(token);
}

void SlotTable::SetHeadFault(std::int32_t slot, absl::Status status) {
  At(slot).head_fault = std::move(status);
}

void SlotTable::Spoil(const StepBatch& batch) {
  for (const StepSequence& sequence : batch.sequences) At(sequence.slot).spoiled = true;
}

}  // namespace tandem
