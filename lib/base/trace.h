#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tandem {

// What a process did and when, for `tandem trace`: events in a ring of fixed size, cheap enough to
// stay in the code that runs every step.

// The same numbers as TraceOp in proto/tandem/v1/trace.proto.
enum class TraceOp : std::uint8_t {
  // Entries of a worker's list (lib/worker/stage_layout.h).
  kBegin = 0,
  kWaitData = 1,
  kWaitSpace = 2,
  kRun = 3,
  kRelease = 4,
  kPublish = 5,
  kSample = 6,
  // Of the gateway.
  kSchedule = 7,
  kSend = 8,
  kResult = 9,
};

// Nanoseconds of CLOCK_MONOTONIC: one clock for all processes of a host.
std::int64_t MonotonicNanoseconds();

struct TraceEvent {
  std::uint64_t step_id = 0;
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  TraceOp op = TraceOp::kBegin;
  // Of the stage (kRun), the edge (waits, kRelease, kPublish) or the worker (kResult).
  std::int16_t index = 0;
  std::int16_t micro_batch = 0;
};

// One thread records, any thread reads. Recording takes no lock and allocates nothing; where nobody
// has read lately it does nothing.
class TraceRecorder {
 public:
  static constexpr std::size_t kCapacity = std::size_t{1} << 16;
  // How long recording goes on after a read.
  static constexpr std::int64_t kKeepNanoseconds = 5'000'000'000;

  TraceRecorder() : words_(new std::atomic<std::uint64_t>[kCapacity * kWords]()) {}

  void Record(const TraceEvent& event) {
    if (event.end_ns < on_until_ns_.load(std::memory_order_relaxed)) Write(event);
  }

  // Events are numbered from 1. The oldest `max` of those from `next` on that the ring still
  // holds; with next = 0 none, but recording begins.
  struct Batch {
    std::vector<TraceEvent> events;
    // For the next read.
    std::uint64_t next = 0;
    // Numbers before the first of `events` that were overwritten unread.
    std::uint64_t lost = 0;
  };
  Batch Read(std::uint64_t next, std::size_t max);

 private:
  static constexpr std::size_t kWords = 4;
  void Write(const TraceEvent& event);
  std::atomic<std::uint64_t>* SlotOf(std::uint64_t number) {
    return &words_[number % kCapacity * kWords];
  }

  std::atomic<std::int64_t> on_until_ns_{0};
  // Events recorded so far.
  std::atomic<std::uint64_t> count_{0};
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace tandem
