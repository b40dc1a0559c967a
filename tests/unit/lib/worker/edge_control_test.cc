#include "lib/worker/edge_control.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "lib/base/status_macros.h"
#include "lib/worker/edge.h"

namespace tandem {
namespace {

Deadline Soon() { return Deadline::After(absl::Seconds(30)); }
Deadline Never() { return Deadline::After(absl::Hours(10)); }

class EdgeControlTest : public testing::Test {
 protected:
  void SetUp() override { Make(3); }
  void Make(std::int32_t slots) {
    layout_ = MakeResidualLayout(slots, 8, 32);
    producer_ = *EdgeControl::Create("a>b", EdgeEnd::kProducer, layout_, 9);
    consumer_ =
        *EdgeControl::Open("a>b", EdgeEnd::kConsumer, *Duplicate(producer_->fd()), layout_, 9);
  }
  ResidualLayout layout_;
  std::unique_ptr<EdgeControl> producer_;
  std::unique_ptr<EdgeControl> consumer_;
};

TEST_F(EdgeControlTest, SlotsGoRound) {
  for (std::uint64_t s = 0; s < 20; ++s) {
    ASSERT_TRUE(producer_->WaitForSpace(s, Soon()).ok());
    EXPECT_EQ(producer_->SlotOf(s), static_cast<std::int32_t>(s % 3));
    producer_->Publish(s, 7, 4);
    ASSERT_TRUE(consumer_->WaitForData(s, 7, 4, Soon()).ok());
    consumer_->Release(s);
  }
  EXPECT_EQ(producer_->handovers(), 20u);
  EXPECT_EQ(consumer_->handovers(), 20u);
}

TEST_F(EdgeControlTest, SequencesBeyond32Bits) {
  const std::uint64_t first = (std::uint64_t{1} << 32) - 2;
  producer_->BeginStep(first);
  consumer_->BeginStep(first);
  for (std::uint64_t s = first; s < first + 10; ++s) {
    ASSERT_TRUE(producer_->WaitForSpace(s, Soon()).ok());
    producer_->Publish(s, s, 1);
    ASSERT_TRUE(consumer_->WaitForData(s, s, 1, Soon()).ok());
    consumer_->Release(s);
  }
}

TEST_F(EdgeControlTest, AFullRingWaitsForTheConsumer) {
  for (std::uint64_t s = 0; s < 3; ++s) producer_->Publish(s, 1, 1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      producer_->WaitForSpace(3, Deadline::After(absl::Milliseconds(20)))));
  std::thread consumer([&] {
    EXPECT_TRUE(consumer_->WaitForData(0, 1, 1, Soon()).ok());
    consumer_->Release(0);
  });
  EXPECT_TRUE(producer_->WaitForSpace(3, Soon()).ok());
  consumer.join();
}

TEST_F(EdgeControlTest, ManyHandOversBetweenThreads) {
  Make(2);
  constexpr std::uint64_t kCount = 20'000;
  // Atomic for the thread sanitizer alone: it does not know that both mappings are one page.
  std::array<std::atomic<std::uint64_t>, 2> slots{};
  std::thread producer([&] {
    for (std::uint64_t s = 0; s < kCount; ++s) {
      ASSERT_TRUE(producer_->WaitForSpace(s, Soon()).ok());
      slots[s % 2].store(s * 3, std::memory_order_relaxed);
      producer_->Publish(s, s, 1);
    }
  });
  for (std::uint64_t s = 0; s < kCount; ++s) {
    ASSERT_TRUE(consumer_->WaitForData(s, s, 1, Soon()).ok());
    EXPECT_EQ(slots[s % 2].load(std::memory_order_relaxed), s * 3);
    consumer_->Release(s);
  }
  producer.join();
}

TEST_F(EdgeControlTest, TimeoutNamesTheEdge) {
  const absl::Status status =
      consumer_->WaitForData(0, 1, 1, Deadline::After(absl::Milliseconds(10)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_NE(std::string(status.message()).find("a>b"), std::string::npos);
}

TEST_F(EdgeControlTest, InterruptEndsAWaitThatRuns) {
  std::thread interrupter([&] { consumer_->Interrupt(); });
  EXPECT_TRUE(absl::IsCancelled(consumer_->WaitForData(0, 1, 1, Never())));
  interrupter.join();
  // It holds until it is cleared, and concerns this end alone.
  EXPECT_TRUE(absl::IsCancelled(consumer_->WaitForData(0, 1, 1, Never())));
  EXPECT_TRUE(producer_->WaitForSpace(0, Soon()).ok());
  consumer_->ClearInterrupt();
  producer_->Publish(0, 1, 1);
  EXPECT_TRUE(consumer_->WaitForData(0, 1, 1, Soon()).ok());
}

TEST_F(EdgeControlTest, CloseEndsTheOtherEndsWait) {
  std::thread closer([&] { producer_->Close(); });
  EXPECT_TRUE(absl::IsUnavailable(consumer_->WaitForData(0, 1, 1, Never())));
  closer.join();
}

TEST_F(EdgeControlTest, WhatWasPublishedBeforeCloseCanBeRead) {
  producer_->Publish(0, 1, 1);
  producer_.reset();
  EXPECT_TRUE(consumer_->WaitForData(0, 1, 1, Soon()).ok());
  EXPECT_TRUE(absl::IsUnavailable(consumer_->WaitForData(1, 1, 1, Soon())));
}

TEST_F(EdgeControlTest, APeerThatIsGoneEndsTheWait) {
  for (std::uint64_t s = 0; s < 3; ++s) producer_->Publish(s, 1, 1);
  std::thread watcher([&] { producer_->SetPeerGone(); });
  EXPECT_TRUE(absl::IsUnavailable(producer_->WaitForSpace(3, Never())));
  watcher.join();
}

TEST_F(EdgeControlTest, OtherRowsOrAnotherStepAreErrors) {
  producer_->Publish(0, 5, 4);
  EXPECT_EQ(consumer_->WaitForData(0, 5, 3, Soon()).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(consumer_->WaitForData(0, 6, 4, Soon()).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(consumer_->WaitForData(0, 5, 4, Soon()).ok());
}

TEST_F(EdgeControlTest, AStepThatTheProducerGaveUpIsSeenByTheConsumer) {
  producer_->Publish(0, 1, 1);  // hop 0 of 2; hop 1 never comes
  producer_->BeginStep(2);
  EXPECT_TRUE(consumer_->WaitForData(0, 1, 1, Soon()).ok());
  EXPECT_TRUE(absl::IsAborted(consumer_->WaitForData(1, 1, 1, Never())));
  consumer_->BeginStep(2);
  ASSERT_TRUE(producer_->WaitForSpace(2, Soon()).ok());
  producer_->Publish(2, 2, 1);
  EXPECT_TRUE(consumer_->WaitForData(2, 2, 1, Soon()).ok());
}

TEST_F(EdgeControlTest, AStepThatTheConsumerGaveUpIsSeenByTheProducer) {
  consumer_->BeginStep(8);
  EXPECT_TRUE(absl::IsAborted(producer_->WaitForSpace(5, Soon())));
  EXPECT_TRUE(producer_->WaitForSpace(8, Soon()).ok());
}

TEST_F(EdgeControlTest, BeginningTheNextStepKeepsWhatIsPublished) {
  producer_->Publish(0, 1, 1);
  producer_->BeginStep(1);  // the step was complete, its consumer is slow
  EXPECT_TRUE(consumer_->WaitForData(0, 1, 1, Soon()).ok());
}

TEST_F(EdgeControlTest, TheForwarderSkipsWhatWasGivenUp) {
  producer_->Publish(0, 1, 2);
  producer_->BeginStep(6);
  ASSERT_TRUE(consumer_->WaitForNext(0).ok());
  consumer_->Release(0);
  std::thread producer([&] {
    ASSERT_TRUE(producer_->WaitForSpace(6, Soon()).ok());  // only when the gap is skipped
    producer_->Publish(6, 3, 4);
  });
  const absl::StatusOr<EdgeControl::Arrival> arrival = consumer_->WaitForNext(1);
  producer.join();
  ASSERT_TRUE(arrival.ok()) << arrival.status();
  EXPECT_EQ(arrival->sequence, 6u);
  EXPECT_EQ(arrival->step_id, 3u);
  EXPECT_EQ(arrival->rows, 4);
}

TEST_F(EdgeControlTest, OpenChecksThePage) {
  const auto open = [&](std::uint64_t generation, ResidualLayout layout) {
    return EdgeControl::Open("a>b", EdgeEnd::kConsumer, *Duplicate(producer_->fd()), layout,
                             generation)
        .status()
        .code();
  };
  EXPECT_EQ(open(9, layout_), absl::StatusCode::kOk);
  EXPECT_EQ(open(8, layout_), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open(9, MakeResidualLayout(3, 8, 64)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open(9, MakeResidualLayout(33, 8, 32)), absl::StatusCode::kInvalidArgument);
  SharedMemory unsealed = *SharedMemory::Create("unsealed", 4096);
  EXPECT_EQ(EdgeControl::Open("a>b", EdgeEnd::kConsumer, *Duplicate(unsealed.fd.get()), layout_, 9)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(SealSize(unsealed.fd.get()).ok());  // zeroes: no magic
  EXPECT_EQ(EdgeControl::Open("a>b", EdgeEnd::kConsumer, std::move(unsealed.fd), layout_, 9)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem
