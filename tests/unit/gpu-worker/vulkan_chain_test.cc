// Chained lists of one token and of a few. On a driver that runs dispatches one by one, as lavapipe
// does, every wait ends at once: what passes there shows that the right things are handed over and
// counted, not that waiting works.
#include "gpu-worker/stage/chain.h"
#include "tests/unit/gpu-worker/program_fixture.h"

namespace tandem {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class VulkanChainTest : public VulkanProgramTest {
 protected:
  void SetUp() override {
    VulkanProgramTest::SetUp();
    if (HasFatalFailure()) return;
    if (!device_->physical().packed_dot) GTEST_SKIP() << "the device has no such kernels";
    tuning_ = TuningFor(device_->physical());
    tuning_.chain.per_core = 3;
    tuning_.chain.threads = tuning_.chain.end_threads = 32;
    // Lists of a few tokens are of kernels that software drivers have others for.
    tuning_.dot.lanes = tuning_.dot_geglu.lanes = 8;
    tuning_.dot.tokens = 8;
    tuning_.fuse_geglu = true;
  }

  std::unique_ptr<VulkanProgram> CompileChained(const Tuning& tuning, std::int32_t contexts = 2) {
    return Compile(tuning, contexts, nullptr, ActivationType::kAuto, &health_);
  }
  std::unique_ptr<VulkanProgram> CompilePlain(const Tuning& tuning) {
    return Compile(tuning, 2, nullptr, ActivationType::kAuto);
  }

  Tuning tuning_;
  ChainHealth health_;
};

TEST_F(VulkanChainTest, OneTokenIsAlikeWithAndWithoutBarriers) {
  const auto plain = CompilePlain(tuning_);
  const auto chained = CompileChained(tuning_);
  ASSERT_TRUE(plain != nullptr && chained != nullptr);
  // What the token sees.
  EXPECT_THAT(Run(*plain), SizeIs(2000));
  const std::vector<float> found = RunOne(*chained);
  ASSERT_THAT(found, SizeIs(1000));
  ExpectAlike(found, RunOne(*plain));
  // Counts begin anew with each step, and nothing is recorded or allocated for it.
  const std::uint64_t recordings = device_->counters().command_recordings.load();
  const std::uint64_t allocations = device_->counters().allocations.load();
  for (int step = 0; step < 3; ++step) EXPECT_EQ(RunOne(*chained), found);
  EXPECT_EQ(device_->counters().command_recordings.load(), recordings);
  EXPECT_EQ(device_->counters().allocations.load(), allocations);
  EXPECT_TRUE(health_.usable());
}

TEST_F(VulkanChainTest, AFewTokensAreAlikeWithAndWithoutBarriers) {
  const auto plain = CompilePlain(tuning_);
  const auto chained = CompileChained(tuning_);
  Tuning one = tuning_;
  one.chain.most_tokens = 1;
  const auto chained_one = CompileChained(one);
  ASSERT_TRUE(plain != nullptr && chained != nullptr && chained_one != nullptr);
  EXPECT_THAT(Run(*plain), SizeIs(2000));
  const std::vector<float> found = RunThree(*chained);
  ASSERT_THAT(found, SizeIs(2000));
  ExpectAlike(found, RunThree(*plain));
  EXPECT_EQ(RunThree(*chained_one), RunThree(*plain));
  // Other steps in between.
  EXPECT_THAT(RunOne(*chained), SizeIs(1000));
  const std::uint64_t recordings = device_->counters().command_recordings.load();
  for (int step = 0; step < 3; ++step) EXPECT_EQ(RunThree(*chained), found);
  EXPECT_EQ(device_->counters().command_recordings.load(), recordings);
  EXPECT_TRUE(health_.usable());
}

// Nobody is told of the third dispatch.
TEST_F(VulkanChainTest, WaitingInVainForAFewTokensFailsTheStep) {
  Tuning mute = tuning_;
  mute.chain.mute = 3;
  mute.chain.polls = 1000;
  const auto plain = CompilePlain(tuning_);
  const auto chained = CompileChained(mute);
  ASSERT_TRUE(plain != nullptr && chained != nullptr);
  EXPECT_THAT(Run(*plain), SizeIs(2000));
  const auto ticket = SubmitThree(*chained);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  const absl::Status done = chained->Wait(*ticket, Soon());
  EXPECT_TRUE(absl::IsAborted(done)) << done;
  EXPECT_EQ(health_.failures(), 1u);
  EXPECT_EQ(RunThree(*chained), RunThree(*plain));
}

// A chain that is cut into many jobs goes on where it was.
TEST_F(VulkanChainTest, ManyJobsGiveTheAnswerOfOne) {
  Tuning slow = tuning_;
  slow.flops_per_second = slow.bytes_per_second = 1;
  const auto one = CompileChained(tuning_);
  const auto many = CompileChained(slow);
  ASSERT_TRUE(one != nullptr && many != nullptr);
  EXPECT_THAT(Run(*one), SizeIs(2000));
  const std::vector<float> expected = RunOne(*one);
  const std::uint64_t before = submissions();
  EXPECT_EQ(RunOne(*many), expected);
  EXPECT_GT(submissions() - before, 10u);
  EXPECT_TRUE(health_.usable());
}

// Nobody is told of the second dispatch: those behind it give up, all steps that are under way
// fail, and from then on there are barriers.
TEST_F(VulkanChainTest, WaitingInVainFailsTheStepAndEndsChains) {
  Tuning mute = tuning_;
  mute.chain.mute = 2;
  mute.chain.polls = 1000;
  const auto plain = CompilePlain(tuning_);
  const auto chained = CompileChained(mute);
  ASSERT_TRUE(plain != nullptr && chained != nullptr);
  EXPECT_THAT(Run(*plain), SizeIs(2000));
  const std::vector<float> expected = RunOne(*plain);
  EXPECT_TRUE(health_.usable());
  const auto first = SubmitOne(*chained, 0);
  const auto second = SubmitOne(*chained, 1);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  for (const Ticket ticket : {*first, *second}) {
    const absl::Status done = chained->Wait(ticket, Soon());
    EXPECT_TRUE(absl::IsAborted(done)) << done;
    // What waits behind it in vain may say so first.
    EXPECT_THAT(std::string(done.message()),
                testing::ContainsRegex("dispatch [0-9]+ of a chain was waited for in vain"));
  }
  for (const std::int32_t context : {0, 1}) EXPECT_THAT(LogitsOf(*chained, context), IsEmpty());
  EXPECT_EQ(health_.failures(), 1u);
  const std::uint64_t recordings = device_->counters().command_recordings.load();
  EXPECT_EQ(RunOne(*chained), expected);
  EXPECT_EQ(device_->counters().command_recordings.load(), recordings);
  // Neither does a program that comes later.
  const auto later = CompileChained(mute);
  ASSERT_NE(later, nullptr);
  EXPECT_EQ(RunOne(*later), expected);
  EXPECT_EQ(health_.failures(), 1u);
}

TEST_F(VulkanChainTest, TheTrialSeesWhetherChainsWork) {
  const absl::Status works = TryChain({*device_, *pipelines_, tuning_});
  EXPECT_TRUE(works.ok()) << works;
  tuning_.chain.mute = 7;
  tuning_.chain.polls = 1000;
  const absl::Status mute = TryChain({*device_, *pipelines_, tuning_});
  EXPECT_TRUE(absl::IsAborted(mute)) << mute;
  EXPECT_THAT(mute.message(), testing::HasSubstr("link 7"));
}

TEST_F(VulkanChainTest, DevicesChainWhereTheyAreToldTo) {
  const auto chains = [](ChainingMode mode) {
    const auto device = MakeTestDevice(mode);
    EXPECT_TRUE(device.ok()) << device.status();
    return device.ok() && !(*device)->Report().facts.empty();
  };
  EXPECT_TRUE(chains(ChainingMode::kOn));
  EXPECT_FALSE(chains(ChainingMode::kOff));
  const bool nvidia = device_->physical().driver_id == VK_DRIVER_ID_NVIDIA_PROPRIETARY;
  EXPECT_EQ(chains(ChainingMode::kAuto), nvidia);
}

}  // namespace
}  // namespace tandem
