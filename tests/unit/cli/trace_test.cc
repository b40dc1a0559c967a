#include "cli/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace tandem {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kStart = 5'000'000'000'000;

void AddEvent(v1::ProcessTrace* trace, v1::TraceOp op, int index, std::uint64_t step,
              std::int64_t begin_us, std::int64_t end_us) {
  trace->add_op(op);
  trace->add_index(index);
  trace->add_micro_batch(1);
  trace->add_step_id(step);
  trace->add_begin_ns(kStart + begin_us * 1000);
  trace->add_duration_ns((end_us - begin_us) * 1000);
}

v1::ProcessTrace* AddProcess(v1::TraceResponse* response, const std::string& name, int pid) {
  v1::ProcessTrace* trace = response->add_processes();
  trace->set_process(name);
  trace->set_pid(pid);
  trace->set_next(7);
  trace->set_round_trip_ns(1000);
  trace->add_stages("embed");
  trace->add_stages("ffn 0");
  trace->add_edges("gpu0>npu0");
  return trace;
}

// The gpu-worker runs from 0 to 100 and from 200 to 300 us, the npu-worker from 50 to 250, on a
// clock that is 1 ms behind.
v1::TraceResponse TwoWorkers() {
  v1::TraceResponse response;
  response.set_plan("split");
  v1::ProcessTrace* gpu = AddProcess(&response, "gpu0", 1);
  AddEvent(gpu, v1::TRACE_RUN, 0, 1, 0, 100);
  AddEvent(gpu, v1::TRACE_PUBLISH, 0, 1, 100, 101);
  AddEvent(gpu, v1::TRACE_RUN, 1, 2, 200, 300);
  v1::ProcessTrace* npu = AddProcess(&response, "npu0", 2);
  npu->set_offset_ns(1'000'000);
  AddEvent(npu, v1::TRACE_RUN, 1, 1, 50 - 1000, 250 - 1000);
  v1::ProcessTrace* gateway = AddProcess(&response, "gateway", 3);
  gateway->add_workers("gpu0");
  AddEvent(gateway, v1::TRACE_RESULT, 0, 1, 120, 130);
  return response;
}

TEST(ClusterTraceTest, SumsUpWhatRanAtOnce) {
  ClusterTrace trace;
  bool more = true;
  ASSERT_TRUE(trace.Add(TwoWorkers(), &more).ok());
  EXPECT_FALSE(more);
  const TraceSummary summary = Summarize(trace);
  EXPECT_EQ(summary.steps, 2u);
  EXPECT_NEAR(summary.seconds, 300e-6, 1e-9);
  EXPECT_NEAR(summary.any_share, 1.0, 1e-9);
  EXPECT_NEAR(summary.overlap_share, 100.0 / 300, 1e-9);
  ASSERT_EQ(summary.workers.size(), 2u);
  EXPECT_EQ(summary.workers[0].name, "gpu0");
  EXPECT_NEAR(summary.workers[0].busy_share, 200.0 / 300, 1e-9);
  EXPECT_EQ(summary.workers[0].gaps, 1u);
  EXPECT_NEAR(summary.workers[0].idle_mean_us, 100, 1e-6);
  EXPECT_NEAR(summary.workers[0].idle_p99_us, 100, 1e-6);
  EXPECT_EQ(summary.workers[1].gaps, 0u);
  EXPECT_THAT(Describe(trace, summary), HasSubstr("two or more at once 33.3%"));
}

TEST(ClusterTraceTest, WritesChromesFormat) {
  ClusterTrace trace;
  bool more = false;
  v1::TraceResponse response = TwoWorkers();
  response.mutable_processes(0)->set_stages(1, "ffn \"0\"");
  ASSERT_TRUE(trace.Add(response, &more).ok());
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* file = ::open_memstream(&text, &size);
  WriteChromeTrace(trace, Summarize(trace), file);
  std::fclose(file);
  const nlohmann::json json = nlohmann::json::parse(std::string(text, size));
  std::free(text);
  EXPECT_EQ(json["otherData"]["plan"], "split");
  // Three processes and five events.
  ASSERT_EQ(json["traceEvents"].size(), 8u);
  const auto find = [&](const std::string& name) {
    for (const auto& event : json["traceEvents"]) {
      if (event["name"] == name) return event;
    }
    return nlohmann::json();
  };
  const nlohmann::json run = find("ffn \"0\"");
  EXPECT_EQ(run["args"]["step"], 2);
  EXPECT_EQ(run["args"]["micro_batch"], 1);
  EXPECT_NEAR(run["ts"].get<double>(), 200, 1e-6);
  EXPECT_NEAR(run["dur"].get<double>(), 100, 1e-6);
  EXPECT_NEAR(find("ffn 0")["ts"].get<double>(), 50, 1e-6);
  EXPECT_FALSE(find("publish gpu0>npu0").is_null());
  EXPECT_FALSE(find("result of gpu0").is_null());
}

TEST(ClusterTraceTest, AsksOnWhereTheAnswersEnded) {
  ClusterTrace trace;
  bool more = false;
  EXPECT_EQ(trace.NextRequest().next_size(), 0);
  ASSERT_TRUE(trace.Add(TwoWorkers(), &more).ok());
  EXPECT_EQ(trace.NextRequest().next().at("gpu0"), 7u);
  // The answer that came fastest knows the offset best.
  v1::TraceResponse slower = TwoWorkers();
  slower.mutable_processes(1)->set_round_trip_ns(5000);
  slower.mutable_processes(1)->set_offset_ns(3'000'000);
  ASSERT_TRUE(trace.Add(slower, &more).ok());
  EXPECT_EQ(trace.processes().at("npu0").offset_ns, 1'000'000);
}

TEST(ClusterTraceTest, RefusesColumnsOfDifferentLengths) {
  ClusterTrace trace;
  bool more = false;
  v1::TraceResponse response = TwoWorkers();
  response.mutable_processes(0)->mutable_duration_ns()->RemoveLast();
  EXPECT_TRUE(absl::IsInvalidArgument(trace.Add(response, &more)));
  response = TwoWorkers();
  response.mutable_processes(1)->set_duration_ns(0, -1);
  EXPECT_TRUE(absl::IsInvalidArgument(trace.Add(response, &more)));
  response = TwoWorkers();
  response.mutable_processes(1)->set_offset_ns(INT64_MIN);
  EXPECT_TRUE(absl::IsInvalidArgument(trace.Add(response, &more)));
  trace = ClusterTrace();
  // Names that an index does not have.
  response = TwoWorkers();
  response.mutable_processes(0)->set_index(0, 99);
  response.mutable_processes(0)->set_index(1, -1);
  ASSERT_TRUE(trace.Add(response, &more).ok());
  const ClusterTrace::Process& gpu = trace.processes().at("gpu0");
  EXPECT_EQ(ClusterTrace::NameOf(gpu, gpu.events[0]), "stage 99");
  EXPECT_EQ(ClusterTrace::NameOf(gpu, gpu.events[1]), "publish edge -1");
}

TEST(ClusterTraceTest, NothingRan) {
  const TraceSummary summary = Summarize(ClusterTrace());
  EXPECT_EQ(summary.steps, 0u);
  EXPECT_EQ(summary.any_share, 0);
}

}  // namespace
}  // namespace tandem
