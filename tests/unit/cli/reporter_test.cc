#include "cli/reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "lib/base/fd.h"

namespace tandem {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

v1::LoadProgress HalfWay() {
  v1::LoadProgress progress;
  progress.set_state(v1::LoadProgress::LOADING);
  progress.set_bytes_done(1'200'000'000);
  progress.set_bytes_total(2'400'000'000);
  progress.set_tensors_done(12);
  progress.set_tensors_total(24);
  progress.set_seconds_left(2.5);
  return progress;
}

TEST(ReporterTest, ProgressShowsBytesTensorsAndSecondsLeft) {
  EXPECT_EQ(ProgressText(HalfWay(), 10),
            "[#####-----]  50 %  1.2 GB of 2.4 GB, 12 of 24 tensors, 3 s left");
  EXPECT_THAT(ProgressText(HalfWay(), 0), HasSubstr(" 50 %"));
  EXPECT_THAT(ProgressText(v1::LoadProgress(), 4), HasSubstr("[----]   0 %"));
}

TEST(ReporterTest, StatusNamesWhatReallyRuns) {
  v1::ClusterStatus status;
  status.set_state("ready");
  status.set_plan("split");
  status.set_decode_tokens_per_second(12.34);
  status.set_running(1);
  v1::WorkerStatus* worker = status.add_workers();
  worker->set_name("gpu0");
  worker->set_pid(7);
  worker->set_in_plan(true);
  worker->set_connected(true);
  worker->set_device_kind("vulkan");
  worker->set_device_name("llvmpipe");
  worker->add_weight_imports("layer.0.ffn: zero-copy");
  worker->add_weight_imports("layer.1.ffn: zero-copy");
  v1::StageStatus* stage = status.add_stages();
  stage->set_name("ffn 0");
  stage->set_worker("gpu0");
  stage->set_device("vulkan: llvmpipe");
  for (const char* name : {"ffn 1", "ffn 2", "ffn 3+head"}) {
    v1::StageStatus* next = status.add_stages();
    *next = status.stages(0);
    next->set_name(name);
  }
  v1::EdgeStatus* edge = status.add_edges();
  edge->set_id("npu0>gpu0");
  edge->set_kind("host-pointer");
  EXPECT_EQ(StatusLine(status), "ready | plan split | 12.3 tok/s | 1 running, 0 waiting");
  const std::string table = StatusTable(status);
  EXPECT_THAT(table, HasSubstr("llvmpipe"));
  EXPECT_THAT(table, HasSubstr("2 regions zero-copy"));
  EXPECT_THAT(table, HasSubstr("vulkan: llvmpipe: ffn 0-2, ffn 3+head"));
  EXPECT_THAT(table, HasSubstr("host-pointer"));
}

TEST(ReporterTest, StatusSaysWhatTheHostComputesOfADevicesStages) {
  v1::ClusterStatus status;
  v1::WorkerStatus* worker = status.add_workers();
  worker->set_name("npu0");
  const auto fact = [&](const char* name, const char* value) {
    worker->add_device_facts()->set_name(name);
    worker->mutable_device_facts()->rbegin()->set_value(value);
  };
  const auto part = [&](const char* name, const char* where, double seconds) {
    v1::DevicePart& to = *worker->add_device_parts();
    to.set_name(name);
    to.set_where(where);
    to.set_seconds(seconds);
  };
  EXPECT_THAT(StatusTable(status), Not(HasSubstr("on the")));
  fact("generation", "AIE2");
  fact("firmware", "1.5.5.391");
  part("norms", "host", 0.25);
  part("matrix products", "NPU", 2);
  part("attention", "host", 0.5);
  part("embedding", "host", 0);
  const std::string table = StatusTable(status);
  EXPECT_THAT(table, HasSubstr("generation AIE2; firmware 1.5.5.391\n"));
  EXPECT_THAT(table, HasSubstr("on the NPU: matrix products 2.000 s\n"));
  EXPECT_THAT(table, HasSubstr("on the host: attention 0.500 s, norms 0.250 s\n"));
}

TEST(ReporterTest, PlainLinesAreSaidOnce) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const auto reporter = MakeReporter(write_end.get());
  reporter->Progress(HalfWay());
  reporter->Progress(HalfWay());
  v1::ClusterStatus status;
  status.set_state("starting");
  reporter->Status(status);
  reporter->Status(status);
  write_end.Reset();
  std::string text(4096, '\0');
  text.resize(static_cast<std::size_t>(::read(read_end.get(), text.data(), text.size())));
  EXPECT_EQ(text, "loading  50 %  1.2 GB of 2.4 GB, 12 of 24 tensors, 3 s left\nstarting\n");
}

TEST(PlanTable, ShowsTimesAndReasons) {
  v1::PlanReport report;
  report.set_plan("npu");
  EXPECT_EQ(
      PlanTable(report),
      "plan     npu\nno plans were compared: --plan auto does that when the cluster starts\n");
  report.set_chosen("npu");
  report.set_reason("it is faster");
  report.set_usual_prompt_tokens(512);
  report.set_usual_answer_tokens(128);
  v1::PlanTrial& good = *report.add_trials();
  good.set_plan("npu");
  good.set_devices("npu0 CPU");
  good.set_prefill_seconds(0.001);
  good.set_decode_seconds(0.0125);
  good.set_usual_seconds(2.112);
  v1::PlanTrial& bad = *report.add_trials();
  bad.set_plan("gpu");
  bad.set_error("no room");
  const std::string table = PlanTable(report);
  EXPECT_THAT(table, HasSubstr("chosen   npu\n"));
  EXPECT_THAT(table, ContainsRegex("\n  npu +- +1\\.000 +- +12\\.500 +2\\.112  npu0 CPU\n"));
  EXPECT_THAT(table, ContainsRegex("\n  gpu +cannot: no room\n"));
  EXPECT_THAT(table, HasSubstr("because  it is faster\n         tried at this start\n"));
  report.set_kept(true);
  EXPECT_THAT(PlanTable(report), HasSubstr("tried at an earlier start"));
}

TEST(PlanTable, ShowsWhatWasMeasuredAndHowFarPredictionsAreOff) {
  v1::PlanReport report;
  report.set_plan("npu");
  v1::PlanTrial& untried = *report.add_trials();
  untried.set_plan("split");
  untried.set_devices("npu0 CPU, gpu0 llvmpipe");
  untried.set_predicted_prefill_seconds(0.004);
  untried.set_predicted_decode_seconds(0.125);
  untried.set_predicted_usual_seconds(18.048);
  untried.set_note("without hand-overs");
  v1::WorkerTimes& worker = *report.add_workers();
  worker.set_worker("npu0");
  worker.set_device("CPU");
  const auto add = [&](const char* kind, int tokens, int context, double seconds) {
    v1::StageTime& stage = *worker.add_stages();
    stage.set_kind(kind);
    stage.set_tokens(tokens);
    stage.set_context(context);
    stage.set_seconds(seconds);
  };
  add("ffn", 8, 0, 0.004);
  add("ffn", 1, 16, 0.001);
  add("head", 1, 16, 0.002);
  v1::WorkerTimes& other = *report.add_workers();
  other.set_worker("gpu0");
  other.set_error("no room");
  v1::PairTimes& pair = *report.add_pairs();
  pair.set_first("npu0");
  pair.set_second("gpu0");
  pair.set_slowdown(1.5);
  pair.set_message_seconds(0.00025);
  v1::StepComparison& step = *report.add_steps();
  step.set_steps(90);
  step.set_tokens(1);
  step.set_measured_seconds(0.010);
  step.set_predicted_seconds(0.009);
  std::string table = PlanTable(report);
  EXPECT_THAT(table, ContainsRegex("\n  split +4\\.000 +- +125\\.000 +- +18\\.048  npu0 CPU, gpu0 "
                                   "llvmpipe; without hand-overs\n"));
  EXPECT_THAT(table, HasSubstr("stages of npu0 (CPU), ms\n"));
  EXPECT_THAT(table, ContainsRegex("\n  tokens @ context +1 @ 16 +8 @ 0\n"));
  EXPECT_THAT(table, ContainsRegex("\n  ffn +1\\.000 +4\\.000\n"));
  EXPECT_THAT(table, ContainsRegex("\n  head +2\\.000 +-\n"));
  EXPECT_THAT(table, HasSubstr("  not measured: no room\n"));
  EXPECT_THAT(table, HasSubstr("  what a step takes more than its stages is not known\nstages of"));
  EXPECT_THAT(table, HasSubstr("npu0 beside gpu0: stages take 1.50 times as long, a step that "
                               "both are sent 0.250 ms longer; no plan"));
  EXPECT_THAT(table, ContainsRegex("decode +1 tokens: 10\\.000 ms, predicted 9\\.000 \\(-10 %\\)"));
  worker.mutable_overhead()->set_following_seconds(0.0003);
  worker.mutable_overhead()->set_lone_seconds(0.00075);
  EXPECT_THAT(PlanTable(report), HasSubstr("  a step takes 0.300 ms more than its stages, 0.750 ms "
                                           "where none is under way before it\n"));
  pair.set_edge_kind("host-pointer");
  pair.set_hop_seconds(25e-6);
  pair.set_row_seconds(5e-8);
  table = PlanTable(report);
  EXPECT_THAT(table, HasSubstr("a hand-over by host-pointer takes 25.0 us and 0.05 us a row\n"));
  pair.set_cut_hop_seconds(30e-6);
  pair.set_cut_row_seconds(8e-8);
  table = PlanTable(report);
  EXPECT_THAT(table,
              HasSubstr("0.05 us a row, beside attention that is cut out 30.0 us and 0.08 us "
                        "a row\n"));
}

}  // namespace
}  // namespace tandem
