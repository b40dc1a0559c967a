// Steps that are longer than one job: the device is declared so slow that every kernel is a job of
// its own.
#include "gpu-worker/stage/vulkan_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gpu-worker/stage/dispatch_timer.h"
#include "gpu-worker/stage/tuner.h"
#include "gpu-worker/stage/tuning_profile.h"
#include "lib/device/reference/reference.h"
#include "tests/unit/gpu-worker/program_fixture.h"

namespace tandem {
namespace {

TEST_F(VulkanProgramTest, ManyJobsGiveTheAnswerOfOne) {
  const Tuning fast = TuningFor(device_->physical());
  const Tuning slow = Slow();
  const auto one = Compile(fast);
  const auto many = Compile(slow);
  ASSERT_TRUE(one != nullptr && many != nullptr);
  const std::uint64_t before = submissions();
  const std::vector<float> expected = Run(*one);
  const std::uint64_t middle = submissions();
  // And the copy of the logits.
  EXPECT_EQ(middle - before, 2u);
  EXPECT_EQ(expected.size(), 2000u);
  EXPECT_EQ(Run(*many), expected);
  // Two layers of 5 + 3 products and kernels at least, embedding, norm and head.
  EXPECT_GT(submissions() - middle, 20u);
  EXPECT_EQ(Run(*many), expected);
}

TEST_F(VulkanProgramTest, ATimerTellsOfEveryDispatchOfWhatRanLast) {
  const Tuning tuning = TuningFor(device_->physical());
  DispatchTimer timer;
  const auto plain = Compile(tuning);
  const auto timed = Compile(tuning, 2, &timer);
  ASSERT_TRUE(plain != nullptr && timed != nullptr);
  EXPECT_TRUE(absl::IsNotFound(timer.Last().status()));
  EXPECT_EQ(Run(*timed), Run(*plain));
  // The head's list ends last.
  const auto head = timer.Last();
  ASSERT_TRUE(head.ok()) << head.status();
  std::vector<std::string> names;
  for (const DispatchTimer::Entry& entry : *head) {
    names.push_back(entry.name);
    EXPECT_GE(entry.seconds, 0);
    EXPECT_LT(entry.seconds, 60);
  }
  EXPECT_THAT(names, testing::Contains("candidates"));
  EXPECT_THAT(names, testing::Contains("head"));
  // In front of it the body's.
  const auto both = timer.Latest(2);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_LE((*both)[0].begin, (*both)[0].end);
  EXPECT_LE((*both)[0].end, (*both)[1].end);
  EXPECT_EQ((*both)[0].entries.front().name, "embedding");
  EXPECT_EQ((*both)[1].entries.size(), head->size());
  EXPECT_TRUE(absl::IsNotFound(timer.Latest(3).status()));
}

TEST_F(VulkanProgramTest, ATimerMarksWhatIsWanted) {
  const Tuning tuning = TuningFor(device_->physical());
  DispatchTimer timer([](const std::string& name) { return name == "head"; });
  const auto timed = Compile(tuning, 2, &timer);
  ASSERT_NE(timed, nullptr);
  EXPECT_EQ(Run(*timed).size(), 2000u);
  const auto head = timer.Last();
  ASSERT_TRUE(head.ok()) << head.status();
  ASSERT_EQ(head->size(), 1u);
  EXPECT_EQ(head->front().name, "head");
}

TEST_F(VulkanProgramTest, TuningChoosesAmongValuesAndEndsInTime) {
  const Tuning start = TuningFor(device_->physical());
  const DeviceContext context{*device_, *pipelines_, start};
  TunerOptions options;
  // Compiling for a software driver takes long.
  options.most = absl::Seconds(2);
  std::vector<std::string> measured;
  options.on_measured = [&](const std::string& field, std::uint32_t, double seconds) {
    measured.push_back(field);
    EXPECT_GT(seconds, 0);
  };
  const auto tuning = Tune(context, config_, weights_, options);
  ASSERT_TRUE(tuning.ok()) << tuning.status();
  EXPECT_GE(measured.size(), 1u);
  EXPECT_EQ(measured.front(), TuningFields().front().name);
  for (const TuningField& field : TuningFields())
    EXPECT_TRUE(Allows(field, field.get(*tuning))) << field.name;
  const auto program = Compile(*tuning);
  ASSERT_NE(program, nullptr);
  EXPECT_EQ(Run(*program).size(), 2000u);
  // Without a whole layer there is nothing to measure.
  EXPECT_TRUE(absl::IsNotFound(Tune(context, config_, {}, options).status()));
}

TEST_F(VulkanProgramTest, CancelSendsNoFurtherJobs) {
  const Tuning slow = Slow();
  const auto program = Compile(slow);
  ASSERT_NE(program, nullptr);
  const std::vector<float> expected = Run(*program);
  const std::uint64_t before = submissions();
  const auto ticket = Submit(*program);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  program->Cancel();
  const absl::Status done = program->Wait(*ticket, Soon());
  EXPECT_TRUE(absl::IsCancelled(done)) << done;
  EXPECT_EQ(submissions() - before, 2u);
  EXPECT_TRUE(program->logits(0).empty());
  EXPECT_EQ(Run(*program), expected);
}

// Three submissions of many jobs each: the jobs of one never mix with those of another.
TEST_F(VulkanProgramTest, SeveralOfManyJobsRunInOrder) {
  const Tuning slow = Slow();
  const auto program = Compile(slow, 3);
  ASSERT_NE(program, nullptr);
  const std::vector<float> expected = Run(*program);
  ASSERT_EQ(expected.size(), 2000u);
  for (int round = 0; round < 3; ++round) {
    Ticket last;
    for (std::int32_t context = 0; context < 3; ++context) {
      const auto ticket = Submit(*program, context);
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      last = *ticket;
    }
    const absl::Status done = program->Wait(last, Soon());
    ASSERT_TRUE(done.ok()) << done;
    for (std::int32_t context = 0; context < 3; ++context) {
      EXPECT_EQ(LogitsOf(*program, context), expected) << context;
    }
  }
}

// Cancel drops what waits behind the two jobs that the device has, of every submission.
TEST_F(VulkanProgramTest, CancelMeetsEverySubmission) {
  const Tuning slow = Slow();
  const auto program = Compile(slow, 3);
  ASSERT_NE(program, nullptr);
  const std::vector<float> expected = Run(*program);
  const std::uint64_t before = submissions();
  std::vector<Ticket> tickets;
  for (std::int32_t context = 0; context < 3; ++context) {
    const auto ticket = Submit(*program, context);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*ticket);
  }
  program->Cancel();
  for (const Ticket ticket : tickets) {
    const absl::Status done = program->Wait(ticket, Soon());
    EXPECT_TRUE(absl::IsCancelled(done)) << done;
  }
  EXPECT_EQ(submissions() - before, 2u);
  EXPECT_EQ(Run(*program), expected);
}

TEST_F(VulkanProgramTest, GoesAwayWhileStepsRun) {
  const Tuning slow = Slow();
  const auto program = Compile(slow);
  ASSERT_NE(program, nullptr);
  EXPECT_TRUE(Submit(*program, 0).ok());
  EXPECT_TRUE(Submit(*program, 1).ok());
}

// Commands are recorded once for all contexts; a context more adds its header's copy, a head, the
// copies of its logits and what it shows of final hidden states.
TEST_F(VulkanProgramTest, ContextsShareTheirCommands) {
  const Tuning fast = TuningFor(device_->physical());
  const auto recordings = [&](std::int32_t contexts) {
    const std::uint64_t before = device_->counters().command_recordings.load();
    EXPECT_NE(Compile(fast, contexts), nullptr);
    return device_->counters().command_recordings.load() - before;
  };
  // Buckets of 1, 2, 4 and 8 tokens, of 1 token where it is a sequence's only one, of 1 and 2 logit
  // rows; hidden states of 1, 2, 4 and 8 tokens.
  EXPECT_EQ(recordings(1), 7u + 5 + 4);
  EXPECT_EQ(recordings(4), 7u + 4 * (5 + 4));
}

// A half layer of one token ends in a dispatch of its own, in the product that makes what it adds,
// or in the product behind it.
TEST_F(VulkanProgramTest, OneTokenIsAlikeHoweverHalfLayersEnd) {
  if (!device_->physical().packed_dot) GTEST_SKIP() << "the device has no such kernels";
  Tuning apart = TuningFor(device_->physical());
  apart.fuse_post_norm = false;
  apart.stream.per_core = 0;
  apart.fuse_geglu = true;
  Tuning before = apart;
  before.fuse_post_norm = true;
  Tuning behind = apart;
  behind.stream = {.per_core = 3, .threads = 32};
  std::vector<std::vector<float>> found;
  std::vector<std::uint64_t> recordings;
  for (const Tuning* tuning : {&apart, &before, &behind}) {
    const std::uint64_t first = device_->counters().command_recordings.load();
    const auto program = Compile(*tuning, 1, nullptr, ActivationType::kAuto);
    ASSERT_NE(program, nullptr);
    recordings.push_back(device_->counters().command_recordings.load() - first);
    found.push_back(RunOneToken(*program));
  }
  // The last has a list of its own.
  EXPECT_EQ(recordings[1], recordings[0]);
  EXPECT_EQ(recordings[2], recordings[0] + 1);
  ExpectAlike(found[1], found[0]);
  ExpectAlike(found[2], found[0]);
}

// Matrices of columns in multiples of 128.
class WideProgramTest : public VulkanProgramTest {
 protected:
  ModelConfig Config() const override {
    ModelConfig config = SmallConfig();
    config.hidden_size = config.ffn_size = 128;
    config.num_heads = 4;
    return config;
  }
  WeightFormat Format() const override { return WeightFormat::kInt4; }
};

TEST_F(WideProgramTest, StepsAreAlikeHoweverManyLanesShareARow) {
  if (!device_->physical().packed_dot) GTEST_SKIP() << "the device has no such kernels";
  std::vector<std::vector<float>> several, one;
  for (const std::uint32_t lanes : {8, 1}) {
    Tuning tuning = TuningFor(device_->physical());
    tuning.fuse_post_norm = tuning.fuse_geglu = tuning.matrices = false;
    tuning.stream.per_core = 0;
    tuning.dot = {.threads = 32, .lanes = lanes, .loads = 1, .tokens = lanes};
    const auto program = Compile(tuning, 1, nullptr, ActivationType::kAuto);
    ASSERT_NE(program, nullptr);
    several.push_back(Run(*program));
    one.push_back(RunOneToken(*program));
  }
  ExpectAlike(several[1], several[0]);
  ExpectAlike(one[1], one[0]);
  EXPECT_NE(one[1], one[0]);
}

TEST_F(VulkanProgramTest, ScratchIsWhatWasComputed) {
  const Tuning fast = TuningFor(device_->physical());
  std::uint64_t before = 0;
  for (const std::int32_t contexts : {1, 2, 5}) {
    const auto program = Compile(fast, contexts);
    ASSERT_NE(program, nullptr);
    StepRules rules;
    rules.limits = {
        .max_tokens = 8, .max_sequences = 3, .max_logit_rows = 2, .max_blocks_per_sequence = 2};
    rules.global_blocks = rules.window_blocks = 4;
    const ProgramStage stage{{.embed = true, .first_half = 0, .last_half = 4, .head = true}};
    const DecodeRoom decode = RoomForDecode({*device_, *pipelines_, fast}, config_, 4);
    const ProgramMemorySizes sizes =
        SizeProgramMemory(config_, {&stage, 1}, rules, contexts, false, decode);
    EXPECT_EQ(program->scratch_bytes(), sizes.bytes());
    EXPECT_EQ(sizes.logits, 2u * 1000);
    EXPECT_GT(program->scratch_bytes(), before);
    before = program->scratch_bytes();
  }
}

// A device that binds and allocates little: matrices in chunks, regions in windows.
class NarrowDeviceTest : public VulkanProgramTest {
 protected:
  void Narrow(vulkan::PhysicalDevice* device) override {
    // 256 rows of the embedding, of 1000.
    device->limits.maxStorageBufferRange = 20000;
    device->max_allocation_bytes = 32768;
  }

  void ExpectTheReferencesAnswer() {
    const Tuning tuning = TuningFor(device_->physical());
    const auto program = Compile(tuning);
    ASSERT_NE(program, nullptr);
    const auto* embedding = static_cast<const VulkanWeights*>(weights_.front().get());
    for (const auto& weights : weights_) {
      if (weights->manifest().name == "embedding") {
        embedding = static_cast<const VulkanWeights*>(weights.get());
      }
    }
    const auto tensor = embedding->Find({TensorKind::kEmbedding, -1});
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ((*tensor)->chunks.size(), 4u);
    EXPECT_NE((*tensor)->chunks[0].values.buffer, (*tensor)->chunks[3].values.buffer);
    const std::vector<float> found = Run(*program);
    const auto reference = ReferenceModel::Make(config_, regions_);
    ASSERT_TRUE(reference.ok()) << reference.status();
    const std::vector<float> logits = reference->Logits(kTokens);
    ASSERT_EQ(found.size(), 2000u);
    for (std::size_t i = 0; i < 1000; ++i) {
      ASSERT_NEAR(found[i], logits[1000 + i], 1e-4 * (1 + std::abs(logits[1000 + i]))) << i;
      ASSERT_NEAR(found[1000 + i], logits[4000 + i], 1e-4 * (1 + std::abs(logits[4000 + i]))) << i;
    }
  }
};

TEST_F(NarrowDeviceTest, ChunksAndWindowsGiveTheReferencesAnswer) { ExpectTheReferencesAnswer(); }

class NarrowUploadTest : public NarrowDeviceTest {
 protected:
  bool Uploads() const override { return true; }
};

// The staging buffer, too, stays within what the device allocates at once.
TEST_F(NarrowUploadTest, ChunksAndWindowsGiveTheReferencesAnswer) { ExpectTheReferencesAnswer(); }

// One that binds little but allocates all: values and scales of a matrix lie far from each other.
class NarrowBindingTest : public VulkanProgramTest {
 protected:
  void Narrow(vulkan::PhysicalDevice* device) override {
    device->limits.maxStorageBufferRange = 20000;
  }
};

TEST_F(NarrowBindingTest, PackedProductsTakeChunksOfOneBuffer) {
  const Tuning tuning = TuningFor(device_->physical());
  const auto program = Compile(tuning, 2, nullptr, ActivationType::kAuto);
  ASSERT_NE(program, nullptr);
  const std::vector<float> found = Run(*program);
  ASSERT_EQ(found.size(), 2000u);
  const auto reference = ReferenceModel::Make(config_, regions_);
  ASSERT_TRUE(reference.ok()) << reference.status();
  const std::vector<float> logits = reference->Logits(kTokens);
  double squares = 0, error = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    squares += std::pow(logits[1000 + i], 2) + std::pow(logits[4000 + i], 2);
    error +=
        std::pow(found[i] - logits[1000 + i], 2) + std::pow(found[1000 + i] - logits[4000 + i], 2);
  }
  // Activations in 8 bits, where the device has packed dot products.
  EXPECT_LT(std::sqrt(error / squares), 0.05);
}

class VulkanCoresTest : public VulkanProgramTest {
 protected:
  void Narrow(vulkan::PhysicalDevice* physical) override { physical->cores = 8; }
};

TEST_F(VulkanCoresTest, AttentionOfManyTokensGivesEachCoreItsInvocations) {
  Tuning tuning = TuningFor(device_->physical());
  tuning.decode = {.threads = 64, .unroll = 4, .groups = 1, .core_threads = 128};
  const struct {
    std::uint32_t rows, threads, unroll;
  } cases[] = {{1, 64, 4}, {4, 64, 4}, {8, 128, 2}, {16, 64, 4}, {32, 32, 4}, {64, 32, 4}};
  for (const auto& [rows, threads, unroll] : cases) {
    // A workgroup a token.
    const DecodeShape shape = ChooseDecodeShape({*device_, *pipelines_, tuning}, config_, rows);
    EXPECT_EQ(shape.threads, threads) << rows;
    EXPECT_EQ(shape.unroll, unroll) << rows;
    EXPECT_EQ(shape.splits, 1u) << rows;
  }
  tuning.decode.core_threads = 0;
  EXPECT_EQ(ChooseDecodeShape({*device_, *pipelines_, tuning}, config_, 8).threads, 64u);
}

}  // namespace
}  // namespace tandem
