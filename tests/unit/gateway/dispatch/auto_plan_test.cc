#include "gateway/dispatch/auto_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kPlans = {"split", "gpu", "npu"};

std::vector<PlanTrial> Trials() {
  return {{"split", "npu0 CPU, gpu0 llvmpipe", 0.004, 0.03, ""},
          {"gpu", "gpu0 llvmpipe", 0.006, 0.02, ""},
          {"npu", "npu0 CPU", 0.001, 0.005, ""}};
}

TEST(AutoCandidates, AreWhatTheWorkersAllow) {
  const PlanWorker gpu{"gpu0", WorkerRole::kGpu};
  const PlanWorker npu{"npu0", WorkerRole::kNpu};
  EXPECT_THAT(AutoCandidates({gpu, npu}), ElementsAre("split", "gpu", "npu"));
  EXPECT_THAT(AutoCandidates({gpu, gpu}), ElementsAre("gpu"));
  EXPECT_THAT(AutoCandidates({npu}), ElementsAre("npu"));
}

TEST(ChoosePlan, TakesTheFastestForAUsualRequestAndSaysWhy) {
  const PlanReport report = ChoosePlan(Trials());
  EXPECT_EQ(report.chosen, "npu");
  EXPECT_EQ(report.reason,
            "npu (npu0 CPU) answers a prompt of 512 tokens with 128 tokens in 1.15 s; split (npu0 "
            "CPU, gpu0 llvmpipe) takes 5.11 times as long; gpu (gpu0 llvmpipe) takes 4.89 times as "
            "long");
  EXPECT_EQ(report.trials.size(), 3u);
}

TEST(ChoosePlan, WeighsPromptsAndAnswers) {
  // Slow at prompts, and so much faster at answers.
  EXPECT_EQ(ChoosePlan({{"gpu", "", 0.010, 0.010, ""}, {"npu", "", 0.001, 0.040, ""}}).chosen,
            "npu");
  EXPECT_EQ(ChoosePlan({{"gpu", "", 0.010, 0.010, ""}, {"npu", "", 0.001, 0.050, ""}}).chosen,
            "gpu");
  // Of equal ones the first.
  EXPECT_EQ(ChoosePlan({{"gpu", "", 0.01, 0.01, ""}, {"npu", "", 0.01, 0.01, ""}}).chosen, "gpu");
}

TEST(ChoosePlan, WhatCannotServeIsNotTaken) {
  std::vector<PlanTrial> trials = Trials();
  trials[2] = {"npu", "npu0 CPU", 0, 0, "no room for its KV cache"};
  const PlanReport report = ChoosePlan(trials);
  EXPECT_EQ(report.chosen, "gpu");
  EXPECT_THAT(report.reason, HasSubstr("npu cannot: no room for its KV cache"));
  for (PlanTrial& trial : trials) trial.error = "lost";
  EXPECT_EQ(ChoosePlan(trials).chosen, "");
  EXPECT_THAT(ChoosePlan(trials).reason, HasSubstr("no plan has worked; split cannot: lost"));
}

TEST(KeptTrials, AreReadAsTheyWereWritten) {
  std::vector<PlanTrial> trials = Trials();
  trials[1].error = "a device's name with \xff in it";
  const absl::StatusOr<std::vector<PlanTrial>> read =
      ReadTrials(WriteTrials("key", trials), "key", kPlans);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ((*read)[0].devices, trials[0].devices);
  EXPECT_EQ((*read)[0].prefill_seconds, trials[0].prefill_seconds);
  EXPECT_EQ((*read)[2].decode_seconds, trials[2].decode_seconds);
  EXPECT_FALSE((*read)[1].error.empty());
  EXPECT_EQ((*read)[1].prefill_seconds, 0);
}

TEST(KeptTrials, AnythingElseIsRefused) {
  const std::string good = WriteTrials("key", Trials());
  const auto refused = [&](const std::string& text) {
    return absl::IsDataLoss(ReadTrials(text, "key", kPlans).status());
  };
  ASSERT_FALSE(refused(good));
  EXPECT_TRUE(absl::IsDataLoss(ReadTrials(good, "other devices", kPlans).status()));
  EXPECT_TRUE(absl::IsDataLoss(ReadTrials(good, "key", {"gpu", "npu"}).status()));
  EXPECT_TRUE(absl::IsDataLoss(ReadTrials(good, "key", {"split", "npu", "gpu"}).status()));
  for (std::size_t length = 0; length + 1 < good.size(); length += 7)
    EXPECT_TRUE(refused(good.substr(0, length))) << length;
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"\"version\": 1", "\"version\": 2"},
                                                        {"0.001", "0"},
                                                        {"0.001", "-1"},
                                                        {"0.001", "1e300"},
                                                        {"0.001", "\"fast\""},
                                                        {"\"error\": \"\"", "\"error\": 5"},
                                                        {"\"devices\"", "\"device\""},
                                                        {"\"trials\"", "\"tries\""}}) {
    const std::string text = absl::StrReplaceAll(good, {{from, to}});
    ASSERT_NE(text, good);
    EXPECT_TRUE(refused(text)) << text;
  }
}

}  // namespace
}  // namespace tandem
