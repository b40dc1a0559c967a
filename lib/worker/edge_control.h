#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/device/device.h"

namespace tandem {

// The control page of an edge: one page of shared memory beside the ring of residual slots, through
// which the two workers tell each other what is written and what is read. Hand-over number s
// ("sequence") uses slot s % slots. Sequences are 64 bits wide and never wrap; the futex words
// ("bells") only count events and may wrap.
//
// One thread at a time on the producing end and one on the consuming end; Interrupt, Close and
// SetPeerGone from any thread.

inline constexpr std::int32_t kMaxEdgeSlots = 32;

// In shared memory, the same for both processes. Each end writes its own cache lines only, the
// bells excepted.
struct EdgeControlPage {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t generation;
  std::uint64_t slot_bytes;
  std::int32_t slots;
  std::int32_t max_tokens;
  std::int32_t columns;

  alignas(64)
      std::atomic<std::uint64_t> produced;  // every hand-over below it is published or was given up
  alignas(64) std::atomic<std::uint32_t> data_bell;

  // every hand-over below it was read or was given up
  alignas(64) std::atomic<std::uint64_t> consumed;
  alignas(64) std::atomic<std::uint32_t> space_bell;

  alignas(64) std::atomic<std::uint32_t> closed;  // bit 0: by the producer, bit 1: by the consumer

  struct SlotState {
    // the hand-over that lies here; another one than expected: that was given up
    std::atomic<std::uint64_t> sequence;
    std::atomic<std::uint64_t> step_id;
    std::atomic<std::int32_t> rows;
  };
  alignas(64) SlotState slot[kMaxEdgeSlots];
};
static_assert(sizeof(EdgeControlPage) <= 4096 && std::atomic<std::uint64_t>::is_always_lock_free);

enum class EdgeEnd : std::uint8_t { kProducer, kConsumer };

class EdgeControl {
 public:
  // A new page in a sealed memfd; `name` shows in /proc and in error texts.
  static absl::StatusOr<std::unique_ptr<EdgeControl>> Create(const std::string& name, EdgeEnd end,
                                                             const ResidualLayout& layout,
                                                             std::uint64_t generation);
  // The page that another process made. INVALID_ARGUMENT when it is not a sealed memfd, or its
  // contents disagree.
  static absl::StatusOr<std::unique_ptr<EdgeControl>> Open(const std::string& name, EdgeEnd end,
                                                           UniqueFd fd,
                                                           const ResidualLayout& layout,
                                                           std::uint64_t generation);
  ~EdgeControl();  // closes this end

  int fd() const { return fd_.get(); }
  std::int32_t SlotOf(std::uint64_t sequence) const {
    return static_cast<std::int32_t>(sequence % static_cast<std::uint64_t>(slots_));
  }

  // The start of a step whose hand-overs are `sequence` and up: what an earlier step left
  // unfinished is given up by this end.
  void BeginStep(std::uint64_t sequence);

  // Producer. Returns when the slot of `sequence` may be written.
  // All waits: CANCELLED when interrupted, UNAVAILABLE when the other end closed or died,
  // DEADLINE_EXCEEDED; ABORTED when the other end has given up on this step.
  absl::Status WaitForSpace(std::uint64_t sequence, Deadline deadline);
  // The slot holds `rows` rows of step `step_id`, readable by the consumer.
  void Publish(std::uint64_t sequence, std::uint64_t step_id, std::int32_t rows);

  // Consumer. Returns when `sequence` is published. INTERNAL when the slot holds another step's
  // rows or another number of them.
  absl::Status WaitForData(std::uint64_t sequence, std::uint64_t step_id, std::int32_t rows,
                           Deadline deadline);
  void Release(std::uint64_t sequence);
  // For a consumer that forwards whatever comes: the next published hand-over at or after `from`.
  // Waits without a deadline.
  struct Arrival {
    std::uint64_t sequence = 0;
    std::uint64_t step_id = 0;
    std::int32_t rows = 0;
  };
  absl::StatusOr<Arrival> WaitForNext(std::uint64_t from);

  // Cuts waits on this end short until ClearInterrupt.
  void Interrupt();
  void ClearInterrupt() { interrupted_.store(false); }
  // This end is over: the other one learns it. Waits on both ends return.
  void Close();
  // The other process died or left.
  void SetPeerGone();

  std::uint64_t consumed() const { return page_->consumed.load(); }
  std::uint64_t handovers() const {
    return handovers_.load();
  }  // published or released by this end

 private:
  EdgeControl(std::string name, EdgeEnd end, UniqueFd fd, Mapping mapping,
              const ResidualLayout& layout);
  absl::Status Wait(const std::atomic<std::uint32_t>& bell, Deadline deadline, const char* what,
                    const std::function<bool()>& ready);
  bool PeerClosed() const;
  void Ring(std::atomic<std::uint32_t>* bell);

  std::string name_;
  EdgeEnd end_;
  UniqueFd fd_;
  Mapping mapping_;
  EdgeControlPage* page_;
  std::int32_t slots_;
  std::int32_t max_tokens_;
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> peer_gone_{false};
  std::atomic<std::uint64_t> handovers_{0};
};

}  // namespace tandem
