// What metrics, traces and an access log get to know of calls.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/gateway/ingress/grpc_fixture.h"
#include "tests/unit/lib/telemetry/otlp_collector.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class GrpcAccess : public GrpcTest {
 protected:
  void SetUp() override {
    options_.on_exchange = [this](const GrpcExchange& exchange) {
      const std::lock_guard<std::mutex> lock(mutex_);
      seen_.push_back(exchange);
      changed_.notify_all();
    };
  }
  void TearDown() override { server_.reset(); }
  // The call after those that were taken before.
  GrpcExchange Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::minutes(1), [this] { return seen_.size() > taken_; }));
    return seen_.at(taken_++);
  }
  // The id in the answer's metadata.
  std::string Generate(const std::string& id, std::uint64_t handle) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", id);
    auto reader = stub_->Generate(&context, Request());
    engine_.WaitForRequest(handle);
    engine_.Finish(handle, FinishReason::kStop);
    v1::GenerateResponse response;
    while (reader->Read(&response)) continue;
    EXPECT_TRUE(reader->Finish().ok());
    const auto& metadata = context.GetServerInitialMetadata();
    const auto found = metadata.find("x-request-id");
    if (found == metadata.end()) return "none";
    return std::string(found->second.data(), found->second.size());
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<GrpcExchange> seen_;
  std::size_t taken_ = 0;
};

TEST_F(GrpcAccess, EveryCallIsToldOnceWithItsId) {
  Start();
  EXPECT_EQ(Generate("mine-7", 1), "mine-7");
  const GrpcExchange first = Next();
  EXPECT_EQ(first.id, "mine-7");
  EXPECT_EQ(first.method, "/tandem.v1.Inference/Generate");
  EXPECT_EQ(first.code, "OK");
  EXPECT_GT(first.time, absl::ZeroDuration());
  EXPECT_EQ(first.body, "") << "what people write is not kept unless it is asked for";
  const std::string made = Generate("<script>", 2);
  EXPECT_THAT(made, StartsWith("req_"));
  EXPECT_EQ(Next().id, made);

  grpc::ClientContext context;
  v1::TokenizeRequest large;
  large.set_text(std::string((1 << 20) + 1, '!'));
  v1::TokenizeResponse ids;
  EXPECT_FALSE(stub_->Tokenize(&context, large, &ids).ok());
  const GrpcExchange refused = Next();
  EXPECT_EQ(refused.method, "/tandem.v1.Inference/Tokenize");
  EXPECT_EQ(refused.code, "INVALID_ARGUMENT");

  grpc::ClientContext leaving;
  auto reader = stub_->Generate(&leaving, Request());
  engine_.WaitForRequest(3);
  leaving.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_EQ(Next().code, "CANCELLED");
  const std::lock_guard<std::mutex> lock(mutex_);
  EXPECT_EQ(seen_.size(), 4u);
}

TEST_F(GrpcAccess, BodiesAreKeptWhereTheyAreAskedFor) {
  options_.keep_bodies = true;
  Start();
  Generate("a", 1);
  EXPECT_EQ(nlohmann::json::parse(Next().body)["text"], "Hello");
}

TEST_F(GrpcAccess, RefusalsAreCountedByTheirReason) {
  ApiKeyRule rule;
  rule.name = "few";
  rule.sha256 = HashApiKey("few");
  rule.requests_per_minute = 2;
  keys_ = ApiKeys::FromRules({rule});
  engine_.SetQueue(0);
  Start();
  const auto code = [this](const std::string& key) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    auto reader = stub_->Generate(&context, Request());
    return reader->Finish().error_code();
  };
  EXPECT_EQ(code("other"), grpc::StatusCode::UNAUTHENTICATED);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(code("few"), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"denied\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"queue_full\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"key_limit\"} 3\n"));
}

// The rules of error budgets look for the codes by name.
TEST_F(GrpcAccess, FailuresAreCountedByTheirCode) {
  Start();
  const absl::Status failures[] = {absl::DeadlineExceededError("x"), absl::AbortedError("x"),
                                   absl::DataLossError("x"), absl::UnknownError("x"),
                                   absl::InternalError("x")};
  std::uint64_t handle = 0;
  for (const absl::Status& failure : failures) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, Request());
    engine_.WaitForRequest(++handle);
    engine_.Finish(handle, FinishReason::kError, failure);
    EXPECT_EQ(static_cast<int>(reader->Finish().error_code()), static_cast<int>(failure.code()));
  }
  const std::string text = metrics_.Text();
  for (const char* code : {"DEADLINE_EXCEEDED", "ABORTED", "DATA_LOSS", "UNKNOWN", "INTERNAL"}) {
    EXPECT_THAT(text, HasSubstr("tandem_requests_total{endpoint=\"grpc.Generate\",status=\"" +
                                std::string(code) + "\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("gen_ai_server_request_duration_seconds_count{error_type=\"" +
                                std::string(code) + "\",gen_ai_operation_name="));
  }
}

TEST_F(GrpcAccess, EmbeddingsAreTracedAndMeasured) {
  OtlpCollector collector;
  ASSERT_TRUE(spans_.Start(collector.endpoint(), std::make_shared<prometheus::Registry>()).ok());
  Start();
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  std::string parent;
  std::thread engine([&] {
    parent = engine_.WaitForRequest(1).trace_parent;
    engine_.Pooled(1, {3, 0, 4});
    engine_.Finish(1, FinishReason::kLength);
  });
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-" + trace + "-00f067aa0ba902b7-01");
  v1::EmbedRequest request;
  request.set_text("Hello");
  v1::EmbedResponse response;
  EXPECT_TRUE(stub_->Embed(&context, request, &response).ok());
  engine.join();
  const std::vector<nlohmann::json> spans = collector.TakeSpans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]["name"], "embeddings m");
  EXPECT_EQ(spans[0]["traceId"], trace);
  EXPECT_EQ(spans[0]["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(parent, "00-" + trace + "-" + spans[0]["spanId"].get<std::string>() + "-01");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("gen_ai_server_request_duration_seconds_count{"
                        "gen_ai_operation_name=\"embeddings\",gen_ai_provider_name=\"tandem\","
                        "gen_ai_request_model=\"m\",gen_ai_response_model=\"m\"} 1\n"));
}

}  // namespace
}  // namespace tandem
