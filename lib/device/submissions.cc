#include "lib/device/submissions.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"

namespace tandem {

Submissions::Submissions(const ProgramSpec& spec)
    : stages_(spec.stages),
      contexts_(static_cast<std::size_t>(spec.contexts)),
      entries_(static_cast<std::size_t>(spec.contexts)) {}

std::string Submissions::StageName(std::int32_t stage) const {
  return absl::StrCat("stage '", StageSpecName(stages_[static_cast<std::size_t>(stage)].spec), "'");
}

absl::Status Submissions::CheckContext(std::int32_t context) const {
  if (context >= 0 && static_cast<std::size_t>(context) < contexts_.size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("program: expected a context in [0, ", contexts_.size(), "), found ", context));
}

absl::Status Submissions::CheckBegin(std::int32_t context) const {
  TANDEM_RETURN_IF_ERROR(CheckContext(context));
  if (At(context).under_way == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("program: context ", context, " is used by ",
                                                    At(context).under_way,
                                                    " submissions under way; wait for them first"));
}

void Submissions::SetBegun(std::int32_t context, const Step* step) {
  Context& at = contexts_[static_cast<std::size_t>(context)];
  at.begun = step != nullptr;
  at.head_done = false;
  at.hidden_states = step != nullptr && step->hidden_states;
  at.tokens = step == nullptr ? 0 : static_cast<std::int32_t>(step->tokens.size());
  at.logit_rows = step == nullptr ? 0 : static_cast<std::int32_t>(step->logit_rows.size());
}

absl::Status Submissions::CheckSubmit(std::int32_t stage, std::int32_t context,
                                      std::int32_t input_slot, std::int32_t output_slot) const {
  TANDEM_RETURN_IF_ERROR(CheckContext(context));
  if (stage < 0 || static_cast<std::size_t>(stage) >= stages_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("program: expected a stage in [0, ", stages_.size(), "), found ", stage));
  }
  if (!At(context).begun) {
    return absl::FailedPreconditionError(
        absl::StrCat(StageName(stage), ": context ", context, " holds no step"));
  }
  const auto check = [&](const ResidualBuffer* buffer, std::int32_t slot, absl::string_view which) {
    if (buffer == nullptr || (slot >= 0 && slot < buffer->layout().slots)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(StageName(stage), ": expected an ", which,
                                                   " slot in [0, ", buffer->layout().slots,
                                                   "), found ", slot));
  };
  const ProgramStage& at = stages_[static_cast<std::size_t>(stage)];
  if (at.max_tokens > 0 && tokens(context) > at.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(StageName(stage),
                                                   ": expected a step of at most ", at.max_tokens,
                                                   " tokens, found ", tokens(context)));
  }
  TANDEM_RETURN_IF_ERROR(check(at.input, input_slot, "input"));
  TANDEM_RETURN_IF_ERROR(check(at.output, output_slot, "output"));
  if (next() - first_open_ < entries_.size()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      StageName(stage), ": ", entries_.size(), " submissions are under way; wait for one first"));
}

void Submissions::Add(std::int32_t stage, std::int32_t context) {
  const std::uint64_t ticket = next();
  entries_[IndexOf(ticket)] = {stage, context, absl::OkStatus()};
  Context& at = contexts_[static_cast<std::size_t>(context)];
  ++at.under_way;
  if (stages_[static_cast<std::size_t>(stage)].spec.head) at.head_done = false;
  last_.store(ticket, std::memory_order_release);
}

absl::Status Submissions::CheckTicket(Ticket ticket) const {
  const std::uint64_t newest = last();
  if (ticket.value != 0 && ticket.value <= newest && newest - ticket.value < entries_.size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("program: expected one of the last ",
                                                 entries_.size(), " tickets up to ", newest,
                                                 ", found ", ticket.value));
}

void Submissions::CloseFirst(absl::Status result) {
  TANDEM_CHECK(first_open_ <= last());
  Entry& entry = entries_[IndexOf(first_open_)];
  Context& context = contexts_[static_cast<std::size_t>(entry.context)];
  --context.under_way;
  if (result.ok() && stages_[static_cast<std::size_t>(entry.stage)].spec.head) {
    context.head_done = true;
  }
  entry.result = std::move(result);
  ++first_open_;
}

std::int32_t Submissions::LogitRows(std::int32_t context) const {
  if (!CheckContext(context).ok() || !At(context).head_done) return 0;
  return At(context).logit_rows;
}

std::int32_t Submissions::HiddenRows(std::int32_t context) const {
  if (!CheckContext(context).ok() || !At(context).head_done) return 0;
  return At(context).hidden_states ? At(context).tokens : 0;
}

}  // namespace tandem
