#include "lib/base/trace.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace tandem {
namespace {

TraceEvent EventOf(std::uint64_t number) {
  const auto time = static_cast<std::int64_t>(number) * 10;
  return {number,
          time,
          time + 1,
          TraceOp::kRun,
          static_cast<std::int16_t>(number % 1000),
          static_cast<std::int16_t>(number % 3)};
}

void ExpectEvent(const TraceEvent& event, std::uint64_t number) {
  EXPECT_EQ(event.step_id, number);
  EXPECT_EQ(event.begin_ns, static_cast<std::int64_t>(number) * 10);
  EXPECT_EQ(event.end_ns, static_cast<std::int64_t>(number) * 10 + 1);
  EXPECT_EQ(event.op, TraceOp::kRun);
  EXPECT_EQ(event.index, static_cast<std::int16_t>(number % 1000));
  EXPECT_EQ(event.micro_batch, static_cast<std::int16_t>(number % 3));
}

TEST(TraceRecorderTest, RecordsOnlyWhatSomebodyReads) {
  TraceRecorder recorder;
  recorder.Record(EventOf(1));
  const TraceRecorder::Batch first = recorder.Read(0, 10);
  EXPECT_EQ(first.next, 1u);
  recorder.Record(EventOf(1));
  recorder.Record(EventOf(2));
  const TraceRecorder::Batch batch = recorder.Read(first.next, 10);
  ASSERT_EQ(batch.events.size(), 2u);
  ExpectEvent(batch.events[0], 1);
  ExpectEvent(batch.events[1], 2);
  EXPECT_EQ(batch.next, 3u);
  EXPECT_EQ(batch.lost, 0u);
  // Later than the last read keeps recording.
  TraceEvent late = EventOf(3);
  late.end_ns = MonotonicNanoseconds() + 2 * TraceRecorder::kKeepNanoseconds;
  recorder.Record(late);
  EXPECT_TRUE(recorder.Read(batch.next, 10).events.empty());
}

TEST(TraceRecorderTest, ReadsInPiecesAndCountsWhatWasOverwritten) {
  TraceRecorder recorder;
  recorder.Read(0, 1);
  const std::uint64_t total = TraceRecorder::kCapacity + 100;
  for (std::uint64_t number = 1; number <= total; ++number) recorder.Record(EventOf(number));
  // One slot counts as being written.
  TraceRecorder::Batch batch = recorder.Read(1, 50);
  EXPECT_EQ(batch.lost, 101u);
  ASSERT_EQ(batch.events.size(), 49u);
  ExpectEvent(batch.events[0], 102);
  EXPECT_EQ(batch.next, 151u);
  batch = recorder.Read(batch.next, 50);
  EXPECT_EQ(batch.lost, 0u);
  ASSERT_EQ(batch.events.size(), 50u);
  ExpectEvent(batch.events[0], 151);
}

TEST(TraceRecorderTest, AReaderNeverSeesATornEvent) {
  TraceRecorder recorder;
  recorder.Read(0, 1);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (std::uint64_t number = 1; !stop; ++number) recorder.Record(EventOf(number));
  });
  std::uint64_t next = 1;
  std::uint64_t seen = 0;
  while (seen < 5 * TraceRecorder::kCapacity) {
    const TraceRecorder::Batch batch = recorder.Read(next, TraceRecorder::kCapacity);
    std::uint64_t number = next + batch.lost;
    for (const TraceEvent& event : batch.events) ExpectEvent(event, number++);
    EXPECT_EQ(number, batch.next);
    seen += batch.next - next;
    next = batch.next;
    if (testing::Test::HasFailure()) break;
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace tandem
