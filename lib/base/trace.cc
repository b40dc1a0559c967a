#include "lib/base/trace.h"

#include <time.h>

#include <algorithm>

namespace tandem {

std::int64_t MonotonicNanoseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// A sequence lock: each word is released behind the count of the events before it, so a reader
// that finds a new word finds that count, too, and drops what may be torn. (Fences would do the
// same, but the thread sanitizer knows none.)
void TraceRecorder::Write(const TraceEvent& event) {
  const std::uint64_t number = count_.load(std::memory_order_relaxed) + 1;
  std::atomic<std::uint64_t>* const slot = SlotOf(number);
  slot[0].store(event.step_id, std::memory_order_release);
  slot[1].store(static_cast<std::uint64_t>(event.begin_ns), std::memory_order_release);
  slot[2].store(static_cast<std::uint64_t>(event.end_ns), std::memory_order_release);
  slot[3].store(static_cast<std::uint64_t>(event.op) |
                    std::uint64_t{static_cast<std::uint16_t>(event.index)} << 16 |
                    std::uint64_t{static_cast<std::uint16_t>(event.micro_batch)} << 32,
                std::memory_order_release);
  count_.store(number, std::memory_order_release);
}

TraceRecorder::Batch TraceRecorder::Read(std::uint64_t next, std::size_t max) {
  on_until_ns_.store(MonotonicNanoseconds() + kKeepNanoseconds, std::memory_order_relaxed);
  const std::uint64_t count = count_.load(std::memory_order_acquire);
  Batch batch;
  batch.next = count + 1;
  if (next == 0 || next > count) return batch;
  const std::uint64_t oldest = count < kCapacity ? 1 : count - kCapacity + 1;
  std::uint64_t first = std::max(next, oldest);
  const std::uint64_t last = std::min<std::uint64_t>(count, first + max - 1);
  batch.events.reserve(last - first + 1);
  for (std::uint64_t number = first; number <= last; ++number) {
    const std::atomic<std::uint64_t>* const slot = SlotOf(number);
    TraceEvent event;
    event.step_id = slot[0].load(std::memory_order_acquire);
    event.begin_ns = static_cast<std::int64_t>(slot[1].load(std::memory_order_acquire));
    event.end_ns = static_cast<std::int64_t>(slot[2].load(std::memory_order_acquire));
    const std::uint64_t rest = slot[3].load(std::memory_order_acquire);
    event.op = static_cast<TraceOp>(rest & 0xff);
    event.index = static_cast<std::int16_t>(rest >> 16 & 0xffff);
    event.micro_batch = static_cast<std::int16_t>(rest >> 32 & 0xffff);
    batch.events.push_back(event);
  }
  // The event that is being written now lies where this many and one more events ago lay.
  const std::uint64_t now = count_.load(std::memory_order_relaxed);
  const std::uint64_t valid = now + 1 < kCapacity ? 0 : now + 1 - kCapacity + 1;
  if (first < valid) {
    const std::uint64_t torn = std::min(valid - first, last - first + 1);
    batch.events.erase(batch.events.begin(),
                       batch.events.begin() + static_cast<std::ptrdiff_t>(torn));
    first += torn;
  }
  batch.lost = first - next;
  batch.next = last + 1;
  return batch;
}

}  // namespace tandem
