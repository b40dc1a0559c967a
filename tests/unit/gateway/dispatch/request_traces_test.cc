#include "gateway/dispatch/request_traces.h"

#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>

#include "tests/unit/lib/telemetry/otlp_collector.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

class RequestTracesTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kId = 7;

  void SetUp() override {
    ASSERT_TRUE(
        exporter_.Start(collector_.endpoint(), std::make_shared<prometheus::Registry>()).ok());
    traces_ = std::make_unique<RequestTraces>(
        &exporter_,
        std::vector<ClusterWorker>{{"gpu0", WorkerRole::kGpu, ""}, {"npu0", WorkerRole::kNpu, ""}});
  }
  void Submit(std::uint64_t id, const std::string& parent) {
    GenerationRequest request;
    request.id = "cmpl-x/0";
    request.trace_parent = parent;
    traces_->Submitted(id, request);
  }
  static StepPlan Step(std::uint64_t step_id, std::uint64_t request, std::size_t tokens) {
    StepPlan plan;
    plan.step_id = step_id;
    SequenceShare share;
    share.request = request;
    share.tokens.resize(tokens);
    share.sample = tokens == 1;
    plan.sequences.push_back(share);
    return plan;
  }
  void Answer(std::uint64_t round, std::size_t worker, std::uint64_t step_id, std::int64_t begin,
              absl::Status status = absl::OkStatus()) {
    StepResult result;
    result.step_id = step_id;
    result.status = std::move(status);
    result.run = absl::Seconds(1);
    result.wait = absl::Seconds(2);
    result.begin_unix_ns = begin;
    result.end_unix_ns = begin + 10;
    traces_->Answered(round, worker, result);
  }
  // By "instance name".
  std::map<std::string, Json> Spans() {
    std::map<std::string, Json> by_name;
    for (Json& span : collector_.TakeSpans()) {
      for (const Json& attribute : span["attributes"])
        span[attribute["key"].get<std::string>()] = attribute["value"].front();
      by_name[span["instance"].get<std::string>() + " " + span["name"].get<std::string>()] = span;
    }
    return by_name;
  }

  const TraceContext parent_ = TraceContext::NewTrace();
  OtlpCollector collector_;
  SpanExporter exporter_;
  std::unique_ptr<RequestTraces> traces_;
};

TEST_F(RequestTracesTest, AddUpWhatWorkersSay) {
  Submit(kId, parent_.ToString());
  traces_->Sent(1, Step(1, kId, 5));
  traces_->Sent(1, Step(2, kId, 1));
  Answer(1, 0, 1, 100);
  Answer(1, 1, 1, 105);
  Answer(1, 0, 2, 200);
  traces_->Sent(1, Step(3, kId, 1));
  Answer(1, 0, 3, 300);
  traces_->Finished(kId, absl::OkStatus());
  const std::map<std::string, Json> spans = Spans();
  ASSERT_EQ(spans.size(), 4u);
  for (const auto& [name, span] : spans) {
    EXPECT_EQ(span.at("traceId"), HexOf(parent_.trace_id)) << name;
    EXPECT_EQ(span.at("parentSpanId"), HexOf(parent_.span_id)) << name;
    EXPECT_EQ(span.at("tandem.request.id"), "cmpl-x/0") << name;
  }
  const Json& queue = spans.at("gateway queue");
  EXPECT_LE(std::stoll(queue["startTimeUnixNano"].get<std::string>()),
            std::stoll(queue["endTimeUnixNano"].get<std::string>()));
  const Json& prefill = spans.at("npu0 prefill");
  EXPECT_EQ(prefill["startTimeUnixNano"], "105");
  EXPECT_EQ(prefill["endTimeUnixNano"], "115");
  EXPECT_EQ(prefill["tandem.tokens"], "5");
  const Json& decode = spans.at("gpu0 decode");
  EXPECT_EQ(decode["startTimeUnixNano"], "200");
  EXPECT_EQ(decode["endTimeUnixNano"], "310");
  EXPECT_EQ(decode["tandem.steps"], "2");
  EXPECT_EQ(decode["tandem.device_seconds"], 2.0);
  EXPECT_EQ(decode["tandem.wait_seconds"], 4.0);
}

// Answers of a round that was given up, of failed steps and of others' steps do not count.
TEST_F(RequestTracesTest, CountWhatIsTheirs) {
  Submit(kId, parent_.ToString());
  Submit(8, "");
  Submit(9, "no traceparent");
  traces_->Sent(1, Step(1, kId, 5));
  Answer(1, 0, 1, 50, absl::UnavailableError("gone"));
  traces_->Sent(2, Step(1, kId, 5));
  Answer(1, 0, 1, 60);
  Answer(2, 0, 1, 100);
  traces_->Sent(2, Step(2, 8, 1));
  traces_->Sent(2, Step(3, 9, 1));
  Answer(2, 0, 2, 200);
  Answer(2, 0, 3, 200);
  traces_->Finished(8, absl::OkStatus());
  traces_->Finished(9, absl::OkStatus());
  traces_->Finished(kId, absl::OkStatus());
  // It is forgotten: nothing comes twice.
  Answer(2, 0, 1, 300);
  traces_->Finished(kId, absl::OkStatus());
  const std::map<std::string, Json> spans = Spans();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans.at("gpu0 prefill")["startTimeUnixNano"], "100");
  EXPECT_EQ(spans.at("gpu0 prefill")["tandem.steps"], "1");
}

TEST_F(RequestTracesTest, ARequestThatNeverRanHasOnlyWaited) {
  Submit(kId, parent_.ToString());
  traces_->Finished(kId, absl::ResourceExhaustedError("the queue is full"));
  const std::map<std::string, Json> spans = Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans.at("gateway queue")["status"]["message"], "RESOURCE_EXHAUSTED");
}

}  // namespace
}  // namespace tandem
