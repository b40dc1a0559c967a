#include "gateway/dispatch/trace_collector.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// A worker that answers with its clock, which is ahead by some time, and the number it was asked.
class ClockWorker final : public v1::Worker::Service {
 public:
  explicit ClockWorker(std::int64_t ahead_ns) : ahead_ns_(ahead_ns) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  grpc::Status Trace(grpc::ServerContext*, const v1::ProcessTraceRequest* request,
                     v1::ProcessTrace* trace) override {
    trace->set_clock_ns(MonotonicNanoseconds() + ahead_ns_);
    trace->set_next(request->next() + 5);
    return grpc::Status::OK;
  }

 private:
  std::int64_t ahead_ns_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST(TraceCollectorTest, PutsAllOnOneClock) {
  ClockWorker here(0);
  ClockWorker far(3'600'000'000'000);
  TraceCollector collector(
      {{"gpu0", WorkerRole::kGpu, here.address()}, {"npu0", WorkerRole::kNpu, far.address()}},
      "split");
  v1::TraceRequest request;
  (*request.mutable_next())["npu0"] = 7;
  v1::TraceResponse response;
  ASSERT_TRUE(collector.Read(request, &response).ok());
  EXPECT_EQ(response.plan(), "split");
  ASSERT_EQ(response.processes_size(), 3);
  EXPECT_EQ(response.processes(0).process(), "gateway");
  ASSERT_EQ(response.processes(0).workers_size(), 2);
  EXPECT_EQ(response.processes(1).process(), "gpu0");
  EXPECT_EQ(response.processes(1).offset_ns(), 0);
  EXPECT_EQ(response.processes(1).next(), 5u);
  const v1::ProcessTrace& npu = response.processes(2);
  EXPECT_EQ(npu.next(), 12u);
  EXPECT_GT(npu.round_trip_ns(), 0);
  EXPECT_NEAR(static_cast<double>(npu.offset_ns()), -3'600e9,
              static_cast<double>(npu.round_trip_ns()));
}

TEST(TraceCollectorTest, NamesAWorkerThatDoesNotAnswerAndRecordsItsOwn) {
  std::string gone;
  {
    const ClockWorker worker(0);
    gone = worker.address();
  }
  TraceCollector collector({{"gpu0", WorkerRole::kGpu, gone}}, "gpu");
  v1::TraceResponse first;
  ASSERT_TRUE(collector.Read({}, &first).ok());
  ASSERT_EQ(first.missing_size(), 1);
  EXPECT_EQ(first.missing(0), "gpu0");
  ASSERT_EQ(first.processes_size(), 1);
  collector.own().Record({3, 10, 20, TraceOp::kSend});
  v1::TraceRequest request;
  (*request.mutable_next())["gateway"] = first.processes(0).next();
  v1::TraceResponse second;
  ASSERT_TRUE(collector.Read(request, &second).ok());
  ASSERT_EQ(second.processes(0).op_size(), 1);
  EXPECT_EQ(second.processes(0).op(0), v1::TRACE_SEND);
  EXPECT_EQ(second.processes(0).duration_ns(0), 10);
}

}  // namespace
}  // namespace tandem
