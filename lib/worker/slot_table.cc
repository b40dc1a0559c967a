#include "lib/worker/slot_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("step: ", parts...));
}

// The rows of a share whose logits are wanted: all that score, and the last one when it samples.
std::int64_t LogitRows(const v1::SequenceShare& share) {
  if (!share.score()) return share.sample() ? 1 : 0;
  return share.tokens_size() - (share.next_token() < 0 && !share.sample() ? 1 : 0);
}

}  // namespace

void SlotTable::Slot::Reset() {
  active = spoiled = sampled = false;
  last_token = next_position = window_left = 0;
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
  for (Slot& slot : slots_) {
    slot.global_table.reserve(static_cast<std::size_t>(bounds_.limits.max_blocks_per_sequence));
    slot.window_table.reserve(static_cast<std::size_t>(bounds_.limits.max_blocks_per_sequence));
  }
}

absl::Status SlotTable::CheckSlotNumber(absl::string_view field, std::int32_t slot) const {
  if (slot >= 0 && slot < bounds_.limits.max_sequences) return absl::OkStatus();
  return Invalid(field, ": expected a slot in [0, ", bounds_.limits.max_sequences, "), found ",
                 slot);
}

absl::Status SlotTable::CheckEndsAndStarts(const v1::StepPlan& plan,
                                           std::vector<SamplingParams>* sampling) {
  for (std::size_t i = 0; i < slots_.size(); ++i) views_[i] = {slots_[i].active, false, false};
  for (const std::int32_t slot : plan.ends()) {
    TANDEM_RETURN_IF_ERROR(CheckSlotNumber("ends", slot));
    views_[static_cast<std::size_t>(slot)].active = false;
  }
  sampling->clear();
  for (const v1::SequenceStart& start : plan.starts()) {
    TANDEM_RETURN_IF_ERROR(CheckSlotNumber("starts", start.slot()));
    View& view = views_[static_cast<std::size_t>(start.slot())];
    if (view.active)
      return Invalid("starts: expected a free slot, found slot ", start.slot(), " taken");
    view.active = view.fresh = true;
    for (const std::int32_t token : start.generated()) {
      if (token < 0 || token >= bounds_.config.vocab_size) {
        return Invalid("starts: slot ", start.slot(), ": generated: expected tokens in [0, ",
                       bounds_.config.vocab_size, "), found ", token);
      }
    }
    TANDEM_ASSIGN_OR_RETURN(SamplingParams params,
                            FromProto(start.sampling(), bounds_.config.vocab_size));
    sampling->push_back(std::move(params));
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckTokens(const v1::SequenceShare& share, const Slot& slot, bool fresh) {
  const std::int32_t vocab = bounds_.config.vocab_size;
  for (int i = 0; i < share.tokens_size(); ++i) {
    const std::int32_t token = share.tokens(i);
    if (token == -1 && i == 0 && !fresh && slot.sampled) continue;
    if (token == -1) {
      return Invalid("slot ", share.slot(), ": token ", i,
                     ": -1 stands for the last sampled token, and there is none at this position");
    }
    if (token < 0 || token >= vocab) {
      return Invalid("slot ", share.slot(), ": token ", i, ": expected an id in [0, ", vocab,
                     "), found ", token);
    }
  }
  if (share.score() && (share.next_token() < -1 || share.next_token() >= vocab)) {
    return Invalid("slot ", share.slot(), ": next_token: expected -1 or an id in [0, ", vocab,
                   "), found ", share.next_token());
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckBlocks(const v1::SequenceShare& share, const Slot& slot, bool fresh) {
  const auto check = [&](const char* name, const auto& blocks, std::size_t had, std::int32_t limit,
                         std::int64_t needed) -> absl::Status {
    for (const std::int32_t block : blocks) {
      if (block < 0 || block >= limit) {
        return Invalid("slot ", share.slot(), ": ", name, ": expected blocks in [0, ", limit,
                       "), found ", block);
      }
    }
    const auto have = static_cast<std::int64_t>(had) + blocks.size();
    if (have < needed || have > bounds_.limits.max_blocks_per_sequence) {
      return Invalid("slot ", share.slot(), ": ", name, ": expected ", needed, " to ",
                     bounds_.limits.max_blocks_per_sequence, " blocks in the table, found ", have);
    }
    return absl::OkStatus();
  };
  const std::int64_t end = static_cast<std::int64_t>(share.first_position()) + share.tokens_size();
  const std::int64_t blocks = (end + kKvBlockTokens - 1) / kKvBlockTokens;
  TANDEM_RETURN_IF_ERROR(check("new_global_blocks", share.new_global_blocks(),
                               fresh ? 0 : slot.global_table.size(), bounds_.global_blocks,
                               has_global_ ? blocks : 0));
  TANDEM_RETURN_IF_ERROR(check("new_window_blocks", share.new_window_blocks(),
                               fresh ? 0 : slot.window_table.size(), bounds_.window_blocks,
                               has_window_ ? blocks : 0));
  // The earliest key that the share's first query sees.
  const std::int64_t first_seen = std::max<std::int64_t>(
      0, static_cast<std::int64_t>(share.first_position()) - bounds_.config.sliding_window + 1);
  const std::int32_t left = fresh ? 0 : slot.window_left;
  const auto table = static_cast<std::int64_t>(fresh ? 0 : slot.window_table.size()) +
                     share.new_window_blocks_size();
  const std::int64_t most = std::min(table, first_seen / kKvBlockTokens);
  if (share.window_blocks_left() < left || share.window_blocks_left() > most) {
    return Invalid("slot ", share.slot(), ": window_blocks_left: expected ", left, " to ", most,
                   ", found ", share.window_blocks_left());
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckShare(const v1::SequenceShare& share, std::int64_t* tokens,
                                   std::int64_t* rows) {
  TANDEM_RETURN_IF_ERROR(CheckSlotNumber("sequences", share.slot()));
  View& view = views_[static_cast<std::size_t>(share.slot())];
  const Slot& slot = slots_[static_cast<std::size_t>(share.slot())];
  if (!view.active)
    return Invalid("sequences: expected a slot that was started, found slot ", share.slot());
  if (view.shared)
    return Invalid("sequences: expected each slot once, found slot ", share.slot(), " twice");
  view.shared = true;
  if (!view.fresh && slot.spoiled) {
    return absl::FailedPreconditionError(
        absl::StrCat("step: slot ", share.slot(),
                     " took part in a step that failed: end it and start it again"));
  }
  const std::int32_t next = view.fresh ? 0 : slot.next_position;
  if (share.first_position() != next) {
    return Invalid("slot ", share.slot(), ": first_position: expected ", next, ", found ",
                   share.first_position());
  }
  if (share.tokens_size() < 1)
    return Invalid("slot ", share.slot(), ": tokens: expected at least one, found none");
  TANDEM_RETURN_IF_ERROR(CheckTokens(share, slot, view.fresh));
  TANDEM_RETURN_IF_ERROR(CheckBlocks(share, slot, view.fresh));
  *tokens += share.tokens_size();
  *rows += LogitRows(share);
  return absl::OkStatus();
}

absl::Status SlotTable::Apply(const v1::StepPlan& plan, StepBatch* batch) {
  std::vector<SamplingParams> sampling;
  TANDEM_RETURN_IF_ERROR(CheckEndsAndStarts(plan, &sampling));
  if (plan.sequences_size() + plan.ends_size() + plan.starts_size() < 1)
    return Invalid("expected something to do, found nothing");
  std::int64_t tokens = 0;
  std::int64_t rows = 0;
  for (const v1::SequenceShare& share : plan.sequences())
    TANDEM_RETURN_IF_ERROR(CheckShare(share, &tokens, &rows));
  if (tokens > bounds_.limits.max_tokens)
    return Invalid("expected at most ", bounds_.limits.max_tokens, " tokens, found ", tokens);
  if (rows > bounds_.limits.max_logit_rows) {
    return Invalid("expected at most ", bounds_.limits.max_logit_rows,
                   " rows that sample or score, found ", rows);
  }

  for (const std::int32_t slot : plan.ends()) slots_[static_cast<std::size_t>(slot)].Reset();
  for (int i = 0; i < plan.starts_size(); ++i) {
    Slot& slot = slots_[static_cast<std::size_t>(plan.starts(i).slot())];
    slot.Reset();
    slot.active = true;
    slot.sampling = std::move(sampling[static_cast<std::size_t>(i)]);
    for (const std::int32_t token : plan.starts(i).generated()) slot.counts.Add(token);
  }
  batch->id = plan.step_id();
  batch->tokens.clear();
  batch->sequences.clear();
  batch->logit_rows.clear();
  batch->uses.clear();
  for (int i = 0; i < plan.sequences_size(); ++i) ApplyShare(plan.sequences(i), i, batch);
  return absl::OkStatus();
}

void SlotTable::ApplyShare(const v1::SequenceShare& share, std::int32_t index, StepBatch* batch) {
  Slot& slot = slots_[static_cast<std::size_t>(share.slot())];
  slot.global_table.insert(slot.global_table.end(), share.new_global_blocks().begin(),
                           share.new_global_blocks().end());
  slot.window_table.insert(slot.window_table.end(), share.new_window_blocks().begin(),
                           share.new_window_blocks().end());
  std::fill_n(slot.window_table.begin(), share.window_blocks_left(), kNoBlock);
  slot.window_left = share.window_blocks_left();

  const auto first = static_cast<std::int32_t>(batch->tokens.size());
  const std::int32_t count = share.tokens_size();
  for (const std::int32_t token : share.tokens())
    batch->tokens.push_back(token == -1 ? slot.last_token : token);
  batch->sequences.push_back(
      {share.slot(), first, count, share.first_position(), slot.global_table, slot.window_table});

  for (std::int32_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    LogitUse use;
    if (share.score()) use.score = last ? share.next_token() : share.tokens(i + 1);
    use.sample = last && share.sample();
    if (use.score < 0 && !use.sample) continue;
    use.row = static_cast<std::int32_t>(batch->logit_rows.size());
    use.share = index;
    use.slot = share.slot();
    use.position = static_cast<std::int64_t>(share.first_position()) + i + 1;
    batch->logit_rows.push_back(first + i);
    batch->uses.push_back(use);
  }
  slot.next_position = share.first_position() + count;
  slot.sampled = share.sample();
}

void SlotTable::SetSampled(std::int32_t slot, std::int32_t token) {
  slots_[static_cast<std::size_t>(slot)].last_token = token;
  slots_[static_cast<std::size_t>(slot)].counts.Add(token);
}

void SlotTable::Spoil(const StepBatch& batch) {
  for (const StepSequence& sequence : batch.sequences)
    slots_[static_cast<std::size_t>(sequence.slot)].spoiled = true;
}

}  // namespace tandem
