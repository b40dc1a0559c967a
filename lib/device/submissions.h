#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lib/device/program.h"

namespace tandem {

// The bookkeeping of a Program, the same for every device: which contexts hold a step, which
// submissions are under way, and what came of the last ones. A device keeps what it needs for a
// submission at IndexOf(ticket). Called by the program's one thread, but last() by any.
class Submissions {
 public:
  explicit Submissions(const ProgramSpec& spec);

  // Whether Begin may write to the context.
  absl::Status CheckBegin(std::int32_t context) const;
  // What Begin left there: a step, or nothing.
  void SetBegun(std::int32_t context, const Step* step);

  // Whether the stage may be submitted.
  absl::Status CheckSubmit(std::int32_t stage, std::int32_t context, std::int32_t input_slot,
                           std::int32_t output_slot) const;
  // The ticket that the next Add gives.
  std::uint64_t next() const { return last() + 1; }
  void Add(std::int32_t stage, std::int32_t context);

  std::uint64_t last() const { return last_.load(std::memory_order_acquire); }
  // The oldest one under way; next() where none is.
  std::uint64_t first_open() const { return first_open_; }
  std::size_t IndexOf(std::uint64_t ticket) const {
    return static_cast<std::size_t>(ticket % entries_.size());
  }
  std::int32_t StageOf(std::uint64_t ticket) const { return entries_[IndexOf(ticket)].stage; }
  std::int32_t ContextOf(std::uint64_t ticket) const { return entries_[IndexOf(ticket)].context; }

  // Whether `ticket` is one of the last contexts() given out.
  absl::Status CheckTicket(Ticket ticket) const;
  // The oldest one under way has ended so.
  void CloseFirst(absl::Status result);
  // Of one that is no longer under way.
  const absl::Status& ResultOf(std::uint64_t ticket) const {
    return entries_[IndexOf(ticket)].result;
  }

  // Rows of logits that can be read in the context; 0 where the head has not run yet.
  std::int32_t LogitRows(std::int32_t context) const;
  // Rows of hidden states that can be read there; 0 also where the step did not ask for them.
  std::int32_t HiddenRows(std::int32_t context) const;
  // Of the step in the context.
  std::int32_t tokens(std::int32_t context) const { return At(context).tokens; }
  std::int32_t logit_rows(std::int32_t context) const { return At(context).logit_rows; }
  bool hidden_states(std::int32_t context) const { return At(context).hidden_states; }

  // "stage 'ffn 3'", for errors.
  std::string StageName(std::int32_t stage) const;

 private:
  struct Context {
    bool begun = false;
    bool head_done = false;
    bool hidden_states = false;
    std::int32_t under_way = 0;
    std::int32_t tokens = 0;
    std::int32_t logit_rows = 0;
  };
  struct Entry {
    std::int32_t stage = 0;
    std::int32_t context = 0;
    absl::Status result;
  };
  const Context& At(std::int32_t context) const {
    return contexts_[static_cast<std::size_t>(context)];
  }
  absl::Status CheckContext(std::int32_t context) const;

  const std::vector<ProgramStage> stages_;
  std::vector<Context> contexts_;
  std::vector<Entry> entries_;
  std::atomic<std::uint64_t> last_{0};
  std::uint64_t first_open_ = 1;
};

}  // namespace tandem
