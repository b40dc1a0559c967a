#include "gateway/dispatch/auto_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kPlans = {"split", "gpu", "npu"};

PlanTrial Tried(const std::string& plan, const std::string& devices, double prefill_seconds,
                double decode_seconds) {
  PlanTrial trial;
  trial.plan = plan;
  trial.devices = devices;
  trial.prefill_seconds = prefill_seconds;
  trial.decode_seconds = decode_seconds;
  return trial;
}

std::vector<PlanTrial> Trials() {
  return {Tried("split", "npu0 CPU, gpu0 llvmpipe", 0.004, 0.03),
          Tried("gpu", "gpu0 llvmpipe", 0.006, 0.02), Tried("npu", "npu0 CPU", 0.001, 0.005)};
}

TEST(AutoCandidates, AreWhatTheWorkersAllow) {
  const PlanWorker gpu{"gpu0", WorkerRole::kGpu};
  const PlanWorker npu{"npu0", WorkerRole::kNpu};
  EXPECT_THAT(
      AutoCandidates({gpu, npu}, 26),
      ElementsAre("split", "gpu", "npu", "hybrid", "layers:6,20", "layers:13,13", "layers:19,7"));
  EXPECT_THAT(AutoCandidates({gpu, gpu}, 2), ElementsAre("gpu", "layers:1,1"));
  EXPECT_THAT(AutoCandidates({gpu, gpu}, 1), ElementsAre("gpu"));
  EXPECT_THAT(AutoCandidates({gpu, gpu, npu}, 26), ElementsAre("split", "gpu", "npu", "hybrid"));
  EXPECT_THAT(AutoCandidates({npu}, 26), ElementsAre("npu"));
  EXPECT_TRUE(TriedBlindly("split"));
  EXPECT_TRUE(TriedBlindly("hybrid"));
  EXPECT_FALSE(TriedBlindly("layers:1,1"));
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
  EXPECT_EQ(ChoosePlan({Tried("gpu", "", 0.010, 0.010), Tried("npu", "", 0.001, 0.040)}).chosen,
            "npu");
  EXPECT_EQ(ChoosePlan({Tried("gpu", "", 0.010, 0.010), Tried("npu", "", 0.001, 0.050)}).chosen,
            "gpu");
  // Of equal ones the first.
  EXPECT_EQ(ChoosePlan({Tried("gpu", "", 0.01, 0.01), Tried("npu", "", 0.01, 0.01)}).chosen, "gpu");
}

TEST(ChoosePlan, WhatCannotServeIsNotTaken) {
  std::vector<PlanTrial> trials = Trials();
  trials[2] = Tried("npu", "npu0 CPU", 0, 0);
  trials[2].error = "no room for its KV cache";
  const PlanReport report = ChoosePlan(trials);
  EXPECT_EQ(report.chosen, "gpu");
  EXPECT_THAT(report.reason, HasSubstr("npu cannot: no room for its KV cache"));
  for (PlanTrial& trial : trials) trial.error = "lost";
  EXPECT_EQ(ChoosePlan(trials).chosen, "");
  EXPECT_THAT(ChoosePlan(trials).reason, HasSubstr("no plan has worked; split cannot: lost"));
}

// Of seconds of a usual request, as predicted; with 0 it is not.
PlanTrial Predicted(const std::string& plan, double seconds) {
  PlanTrial trial;
  trial.plan = plan;
  trial.devices = "a device";
  const double token = seconds / (kUsualPromptTokens + kUsualAnswerTokens);
  trial.predicted_prefill_seconds = trial.predicted_decode_seconds = token;
  return trial;
}

void Try(PlanTrial* trial, double seconds) {
  trial->prefill_seconds = trial->decode_seconds =
      seconds / (kUsualPromptTokens + kUsualAnswerTokens);
}

TEST(NextTrial, TriesTheShortestAndWhatMayBeShorterStill) {
  std::vector<PlanTrial> trials = {Predicted("split", 12), Predicted("gpu", 100),
                                   Predicted("npu", 10)};
  EXPECT_EQ(NextTrial(trials), 2u);
  // As predicted: within the margin split may be shorter.
  Try(&trials[2], 10);
  EXPECT_EQ(NextTrial(trials), 0u);
  Try(&trials[0], 9);
  EXPECT_EQ(NextTrial(trials), std::nullopt);
  const PlanReport report = ChoosePlan(trials);
  EXPECT_EQ(report.chosen, "split");
  EXPECT_THAT(report.reason, HasSubstr("gpu (a device) would take 11.1 times as long"));
}

TEST(NextTrial, TriesNothingThatIsFarBehind) {
  std::vector<PlanTrial> trials = {Predicted("split", 13), Predicted("gpu", 100),
                                   Predicted("npu", 10)};
  Try(&trials[2], 10);
  EXPECT_EQ(NextTrial(trials), std::nullopt);
  // Unless what was taken for the fastest is far slower than predicted, or cannot serve.
  Try(&trials[2], 30);
  EXPECT_EQ(NextTrial(trials), 0u);
  trials[2] = Predicted("npu", 10);
  trials[2].error = "no room";
  EXPECT_EQ(NextTrial(trials), 0u);
  trials[0].error = trials[1].error = "no room";
  EXPECT_EQ(NextTrial(trials), std::nullopt);
  EXPECT_EQ(ChoosePlan(trials).chosen, "");
}

TEST(NextTrial, TriesWhatCouldNotBePredicted) {
  std::vector<PlanTrial> trials = {Predicted("split", 0), Predicted("gpu", 10),
                                   Predicted("npu", 0)};
  EXPECT_EQ(NextTrial(trials), 0u);
  Try(&trials[0], 1);
  EXPECT_EQ(NextTrial(trials), 2u);
  Try(&trials[2], 2);
  EXPECT_EQ(NextTrial(trials), std::nullopt);
  EXPECT_EQ(ChoosePlan(trials).chosen, "split");
}

TEST(KeptTrials, KeepPredictionsAndWhatWasNotTried) {
  std::vector<PlanTrial> trials = {Predicted("split", 13), Predicted("gpu", 0),
                                   Predicted("npu", 10)};
  trials[0].note = "without hand-overs";
  trials[1].error = "no room";
  Try(&trials[2], 11);
  const auto read = ReadTrials(WriteTrials("key", trials), "key", kPlans);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE((*read)[0].tried());
  EXPECT_EQ((*read)[0].note, "without hand-overs");
  EXPECT_EQ((*read)[0].predicted_decode_seconds, trials[0].predicted_decode_seconds);
  EXPECT_FALSE((*read)[1].predicted());
  EXPECT_EQ((*read)[2].prefill_seconds, trials[2].prefill_seconds);
  EXPECT_EQ(ChoosePlan(*read).reason, ChoosePlan(trials).reason);
  // Neither tried nor predicted, and nothing that was in the way.
  trials[0] = Predicted("split", 0);
  EXPECT_TRUE(absl::IsDataLoss(ReadTrials(WriteTrials("key", trials), "key", kPlans).status()));
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
       std::vector<std::pair<std::string, std::string>>{{"\"version\": 2", "\"version\": 1"},
                                                        {"0.001", "0"},
                                                        {"0.001", "-1"},
                                                        {"0.001", "1e300"},
                                                        {"0.001", "\"fast\""},
                                                        {"\"error\": \"\"", "\"error\": 5"},
                                                        {"\"devices\"", "\"device\""},
                                                        {"\"note\"", "\"notes\""},
                                                        {"\"trials\"", "\"tries\""}}) {
    const std::string text = absl::StrReplaceAll(good, {{from, to}});
    ASSERT_NE(text, good);
    EXPECT_TRUE(refused(text)) << text;
  }
}

}  // namespace
}  // namespace tandem
