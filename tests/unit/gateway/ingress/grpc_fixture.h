#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <memory>
#include <utility>

#include "gateway/ingress/grpc/grpc_server.h"
#include "lib/telemetry/span_exporter.h"
#include "tandem/v1/control.grpc.pb.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tandem/v1/trace.grpc.pb.h"
#include "tests/unit/gateway/ingress/fake_engine.h"

namespace tandem {

// The gRPC API over a real socket with a fake engine behind it.
class GrpcTest : public ::testing::Test {
 protected:
  GrpcTest() : metrics_(std::make_shared<prometheus::Registry>()) {
    auto serving = std::make_shared<Serving>();
    serving->model = {.id = "m",
                      .created = 7,
                      .weight_format = "int4",
                      .tokenizer = TestTokenizer(),
                      .eos_ids = {TestTokenizer()->vocabulary().eos_id}};
    serving->engine = &engine_;
    serving_.Set(std::move(serving));
  }

  void SetUp() override { Start(); }

  void Start() {
    const auto address = ParseListenAddress("127.0.0.1:0");
    ASSERT_TRUE(address.ok());
    auto server = GrpcServer::Start(
        *address, options_,
        {.serving = &serving_,
         .keys = &keys_,
         .metrics = &metrics_,
         .status =
             [] {
               ClusterStatus status;
               status.state = "ready";
               status.plan = "split";
               status.workers.resize(1);
               status.workers[0].name = "gpu0";
               return status;
             },
         .spans = &spans_,
         .trace =
             [](const v1::TraceRequest& request, v1::TraceResponse* response) {
               response->set_plan("split");
               for (const auto& [process, next] : request.next()) response->add_missing(process);
               return absl::OkStatus();
             },
         .change_plan = [](const std::string& plan) -> absl::StatusOr<std::uint64_t> {
           if (plan == "npu") return 7;
           return absl::InvalidArgumentError("no plan '" + plan + "'");
         },
         .plan_report =
             [] {
               PlanReport report;
               PlanTrial& trial = report.trials.emplace_back();
               trial.plan = "npu";
               trial.devices = "npu0 CPU";
               trial.prefill_seconds = 0.001;
               trial.decode_seconds = 0.01;
               report.chosen = "npu";
               return report;
             }});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel_);
  }

  static v1::GenerateRequest Request() {
    v1::GenerateRequest request;
    request.set_text("Hello");
    request.set_max_tokens(4);
    return request;
  }

  grpc::Status Outcome(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
    }
    return reader->Finish();
  }

  GrpcServerOptions options_;
  FakeEngine engine_;
  ServingSlot serving_;
  ApiKeys keys_;
  IngressMetrics metrics_;
  // Off; a test may start it.
  SpanExporter spans_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace tandem
