#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/gateway/ingress/grpc_fixture.h"
#include "tests/unit/lib/telemetry/otlp_collector.h"

namespace tandem {
namespace {

TEST_F(GrpcTest, GeneratesAsAStream) {
  v1::GenerateRequest request = Request();
  request.set_seed(9);
  request.set_logprobs(1);
  request.set_temperature(0);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  const GenerationRequest submitted = engine_.WaitForRequest(1);
  EXPECT_EQ(submitted.prompt, (std::vector<std::int32_t>{2, Id("Hello")}));
  EXPECT_EQ(submitted.sampling.seed, 9u);
  EXPECT_EQ(submitted.sampling.temperature, 0.0f);
  EXPECT_EQ(submitted.sampling.num_logprobs, 1);
  engine_.Token(1, {.token = Id("!"), .logprob = -0.5f, .top = {{Id("<0xC3>"), -1.0f}}});
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.text(), "!");
  ASSERT_EQ(response.tokens_size(), 1);
  EXPECT_EQ(response.tokens(0), Id("!"));
  ASSERT_EQ(response.logprobs_size(), 1);
  EXPECT_TRUE(response.logprobs(0).has_logprob());
  EXPECT_EQ(response.logprobs(0).logprob(), -0.5f);
  EXPECT_EQ(response.logprobs(0).top(0).piece(), "\xC3");
  engine_.Tokens(1, {Id("\u2581world")});
  engine_.Finish(1, FinishReason::kLength);
  std::string text;
  std::string reason;
  v1::Usage usage;
  while (reader->Read(&response)) {
    text += response.text();
    reason = response.finish_reason();
    usage = response.usage();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, " world");
  EXPECT_EQ(reason, "length");
  EXPECT_EQ(usage.prompt_tokens(), 2);
  EXPECT_EQ(usage.completion_tokens(), 2);
}

TEST_F(GrpcTest, GoesOnWithTheTraceOfTheClient) {
  OtlpCollector collector;
  ASSERT_TRUE(spans_.Start(collector.endpoint(), std::make_shared<prometheus::Registry>()).ok());
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-" + trace + "-00f067aa0ba902b7-01");
  auto reader = stub_->Generate(&context, Request());
  const std::string parent = engine_.WaitForRequest(1).trace_parent;
  engine_.Tokens(1, {Id("\u2581world")});
  engine_.Finish(1, FinishReason::kLength);
  v1::GenerateResponse response;
  while (reader->Read(&response)) continue;
  EXPECT_TRUE(reader->Finish().ok());
  const std::vector<nlohmann::json> spans = collector.TakeSpans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]["name"], "generate_content m");
  EXPECT_EQ(spans[0]["traceId"], trace);
  EXPECT_EQ(spans[0]["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(parent, "00-" + trace + "-" + spans[0]["spanId"].get<std::string>() + "-01");
}

TEST_F(GrpcTest, ChatsAndStopsAtTheEndOfTurn) {
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("Hello");
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  const GenerationRequest submitted = engine_.WaitForRequest(1);
  EXPECT_EQ(submitted.prompt[1], Id("<start_of_turn>"));
  EXPECT_EQ(submitted.max_tokens, 512 - static_cast<std::int32_t>(submitted.prompt.size()));
  engine_.Tokens(1, {Id("!"), Id("<end_of_turn>")});
  std::string text;
  v1::GenerateResponse response;
  while (reader->Read(&response)) text += response.text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "!");
  EXPECT_EQ(response.finish_reason(), "stop");
  engine_.WaitForCancel(1);
}

TEST_F(GrpcTest, CallsToolsAndKeepsFormats) {
  engine_.SetContext(4096);
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("assistant");
  v1::ToolCall* before = message->add_tool_calls();
  before->set_id("1");
  before->set_name("now");
  before->set_arguments("{}");
  message = request.mutable_chat()->add_messages();
  message->set_role("tool");
  message->set_tool_call_id("1");
  message->set_content("noon");
  v1::Tool* tool = request.add_tools();
  tool->set_name("weather");
  tool->set_parameters(R"({"type":"object"})");
  request.set_tool_choice("weather");
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  const GenerationRequest submitted = engine_.WaitForRequest(1);
  ASSERT_NE(submitted.sampling.constraint, nullptr);
  const std::string prompt = TestTokenizer()->Decode(submitted.prompt).value_or("?");
  EXPECT_NE(prompt.find(R"({"name": "now", "output": "noon"})"), std::string::npos) << prompt;
  engine_.Tokens(1, TestTokenizer()->Encode(R"({"name": "weather", "parameters": {"a": 1}})"));
  engine_.Finish(1, FinishReason::kStop);
  std::string name;
  std::string arguments;
  int tokens = 0;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    EXPECT_EQ(response.text(), "");
    tokens += response.tokens_size();
    for (const v1::ToolCall& call : response.tool_calls()) {
      name += call.name();
      arguments += call.arguments();
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(name, "weather");
  EXPECT_EQ(arguments, R"({"a": 1})");
  EXPECT_EQ(response.finish_reason(), "tool_calls");
  EXPECT_EQ(tokens, response.usage().completion_tokens());

  const auto refused = [this](auto set) {
    v1::GenerateRequest wrong = Request();
    set(wrong);
    const grpc::Status status = Outcome(wrong);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  EXPECT_NE(refused([](auto& r) { r.set_regex("(?=a)"); }).find("'regex'"), std::string::npos);
  EXPECT_NE(refused([](auto& r) { r.set_grammar("root"); }).find("'grammar'"), std::string::npos);
  EXPECT_NE(refused([](auto& r) { r.set_json_schema("{"); }).find("'json_schema'"),
            std::string::npos);
  EXPECT_NE(refused([](auto& r) { r.add_tools()->set_name("f"); }).find("'tools'"),
            std::string::npos);
  const auto no_json = [](auto& r) {
    r.mutable_chat()->add_messages()->set_role("user");
    r.add_tools()->set_name("f");
    r.mutable_tools(0)->set_parameters("{\"a\": }");
  };
  EXPECT_NE(refused(no_json).find("'tools[0].parameters': expected JSON"), std::string::npos);
}

TEST_F(GrpcTest, EmbedsAPrompt) {
  v1::EmbedRequest request;
  request.set_model("m");
  request.set_text("Hello");
  for (const bool unit_length : {false, true}) {
    request.set_unit_length(unit_length);
    const std::uint64_t handle = unit_length ? 2 : 1;
    std::thread engine([&] {
      const GenerationRequest submitted = engine_.WaitForRequest(handle);
      EXPECT_EQ(submitted.prompt, (std::vector<std::int32_t>{2, Id("Hello")}));
      EXPECT_TRUE(submitted.pool_prompt);
      engine_.Pooled(handle, {3, 0, 4});
      engine_.Finish(handle, FinishReason::kLength);
    });
    grpc::ClientContext context;
    v1::EmbedResponse response;
    const grpc::Status status = stub_->Embed(&context, request, &response);
    engine.join();
    ASSERT_TRUE(status.ok()) << status.error_message();
    const std::vector<float> values(response.embedding().begin(), response.embedding().end());
    EXPECT_EQ(values,
              unit_length ? (std::vector<float>{0.6f, 0, 0.8f}) : (std::vector<float>{3, 0, 4}));
    EXPECT_EQ(response.usage().prompt_tokens(), 2);
  }
}

TEST_F(GrpcTest, AnEmbeddingMayFailAndMayBeCancelled) {
  v1::EmbedRequest request;
  v1::EmbedResponse response;
  const auto refused = [&](grpc::StatusCode code) {
    grpc::ClientContext context;
    const grpc::Status status = stub_->Embed(&context, request, &response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
  };
  refused(grpc::StatusCode::INVALID_ARGUMENT);
  request.set_text("");
  refused(grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_tokens()->add_ids(-1);
  refused(grpc::StatusCode::INVALID_ARGUMENT);
  request.set_text("Hello");
  request.set_model("other");
  refused(grpc::StatusCode::NOT_FOUND);
  request.clear_model();
  engine_.RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  refused(grpc::StatusCode::RESOURCE_EXHAUSTED);
  engine_.RefuseWith(absl::OkStatus());

  std::thread engine([&] {
    engine_.WaitForRequest(1);
    engine_.Finish(1, FinishReason::kError, absl::UnavailableError("gone"));
  });
  refused(grpc::StatusCode::UNAVAILABLE);
  engine.join();

  grpc::ClientContext context;
  std::thread client([&] {
    engine_.WaitForRequest(2);
    context.TryCancel();
  });
  EXPECT_EQ(stub_->Embed(&context, request, &response).error_code(), grpc::StatusCode::CANCELLED);
  client.join();
  engine_.WaitForCancel(2);
}

TEST_F(GrpcTest, BadRequestsNameTheField) {
  const auto check = [this](v1::GenerateRequest request, const std::string& word) {
    const grpc::Status status = Outcome(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << word;
    EXPECT_NE(status.error_message().find(word), std::string::npos) << status.error_message();
  };
  check(v1::GenerateRequest(), "prompt");
  v1::GenerateRequest request = Request();
  request.set_logprobs(21);
  check(request, "logprobs");
  request = Request();
  request.set_max_tokens(-2);
  check(request, "max_tokens");
  request = Request();
  request.set_max_tokens(511);
  check(request, "context");
  request = Request();
  for (int i = 0; i < 5; ++i) request.add_stop(std::string(1, static_cast<char>('a' + i)));
  check(request, "stop");
  request = Request();
  request.set_temperature(-1);
  check(request, "temperature");
  request = Request();
  request.mutable_tokens()->add_ids(-1);
  check(request, "tokens");
  request = Request();
  request.mutable_chat();
  check(request, "messages");
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(GrpcTest, RefusalsHaveTheirCodes) {
  v1::GenerateRequest request = Request();
  request.set_model("other");
  EXPECT_EQ(Outcome(request).error_code(), grpc::StatusCode::NOT_FOUND);
  engine_.SetQueue(0);
  EXPECT_EQ(Outcome(Request()).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  engine_.RefuseWith(absl::UnavailableError("gone"));
  EXPECT_EQ(Outcome(Request()).error_code(), grpc::StatusCode::UNAVAILABLE);
  serving_.Set(nullptr);
  EXPECT_EQ(Outcome(Request()).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTest, AnEngineErrorEndsTheStream) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  engine_.Tokens(1, {Id("!")});
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  engine_.Finish(1, FinishReason::kError, absl::UnavailableError("gpu0 is gone"));
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "gpu0 is gone");
}

TEST_F(GrpcTest, CancellingTheCallCancelsTheRequest) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  engine_.WaitForRequest(1);
  context.TryCancel();
  engine_.WaitForCancel(1);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcTest, ShutdownCancelsWhatRuns) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  engine_.WaitForRequest(1);
  server_->Shutdown(absl::ZeroDuration());
  engine_.WaitForCancel(1);
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcTest, TokenizesBothWays) {
  v1::TokenizeRequest request;
  request.set_text("Hello<end_of_turn>");
  request.set_add_bos(true);
  request.set_parse_special(true);
  v1::TokenizeResponse response;
  grpc::ClientContext first;
  ASSERT_TRUE(stub_->Tokenize(&first, request, &response).ok());
  EXPECT_EQ(std::vector<std::int32_t>(response.ids().begin(), response.ids().end()),
            (std::vector<std::int32_t>{2, Id("Hello"), Id("<end_of_turn>")}));
  v1::DetokenizeRequest back;
  *back.mutable_ids() = response.ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext second;
  ASSERT_TRUE(stub_->Detokenize(&second, back, &text).ok());
  EXPECT_EQ(text.text(), "Hello<end_of_turn>");
  back.add_ids(1 << 20);
  grpc::ClientContext third;
  EXPECT_EQ(stub_->Detokenize(&third, back, &text).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcTest, TellsModelAndStatus) {
  v1::ServedModel model;
  grpc::ClientContext first;
  ASSERT_TRUE(stub_->GetModel(&first, {}, &model).ok());
  EXPECT_EQ(model.id(), "m");
  EXPECT_EQ(model.context_tokens(), 512);
  EXPECT_EQ(model.weight_format(), "int4");
  EXPECT_EQ(model.plan(), "split");
  v1::ClusterStatus status;
  grpc::ClientContext second;
  ASSERT_TRUE(stub_->GetStatus(&second, {}, &status).ok());
  EXPECT_EQ(status.state(), "ready");
  EXPECT_FALSE(status.version().empty());
  EXPECT_EQ(status.workers(0).name(), "gpu0");
}

TEST_F(GrpcTest, PassesTracesOn) {
  const auto tracing = v1::Tracing::NewStub(channel_);
  v1::TraceRequest request;
  (*request.mutable_next())["gpu0"] = 5;
  v1::TraceResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(tracing->Trace(&context, request, &response).ok());
  EXPECT_EQ(response.plan(), "split");
  EXPECT_EQ(response.missing(0), "gpu0");
}

TEST_F(GrpcTest, PassesChangesOfThePlanOn) {
  const auto control = v1::Control::NewStub(channel_);
  v1::ChangePlanRequest request;
  request.set_plan("npu");
  v1::ChangePlanResponse response;
  grpc::ClientContext good;
  ASSERT_TRUE(control->ChangePlan(&good, request, &response).ok());
  EXPECT_EQ(response.number(), 7u);
  request.set_plan("fast");
  grpc::ClientContext bad;
  const grpc::Status refused = control->ChangePlan(&bad, request, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(), "no plan 'fast'");
}

TEST_F(GrpcTest, TellsWhyAPlanWasChosen) {
  v1::PlanReport report;
  grpc::ClientContext context;
  ASSERT_TRUE(v1::Control::NewStub(channel_)->GetPlanReport(&context, {}, &report).ok());
  EXPECT_EQ(report.chosen(), "npu");
  EXPECT_EQ(report.plan(), "split");
  ASSERT_EQ(report.trials_size(), 1);
  EXPECT_EQ(report.trials(0).devices(), "npu0 CPU");
  EXPECT_DOUBLE_EQ(report.trials(0).usual_seconds(), 512 * 0.001 + 128 * 0.01);
}

TEST_F(GrpcTest, OnlyAnAdminChangesThePlan) {
  server_.reset();
  ApiKeyRule rule;
  rule.sha256 = HashApiKey("asks");
  rule.scopes = static_cast<std::uint8_t>(KeyScope::kInference) |
                static_cast<std::uint8_t>(KeyScope::kMetrics);
  keys_ = ApiKeys::FromRules({rule});
  Start();
  v1::ChangePlanResponse response;
  grpc::ClientContext none;
  EXPECT_EQ(v1::Control::NewStub(channel_)->ChangePlan(&none, {}, &response).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext other;
  other.AddMetadata("authorization", "Bearer asks");
  EXPECT_EQ(v1::Control::NewStub(channel_)->ChangePlan(&other, {}, &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(GrpcTest, KeysAreChecked) {
  auto keys = ApiKeys::Create({"secret"});
  ASSERT_TRUE(keys.ok());
  server_.reset();
  keys_ = *std::move(keys);
  Start();
  EXPECT_EQ(Outcome(Request()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::ServedModel model;
  grpc::ClientContext without;
  EXPECT_EQ(stub_->GetModel(&without, {}, &model).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::ClusterStatus status;
  grpc::ClientContext wrong;
  wrong.AddMetadata("authorization", "Bearer nonsense");
  EXPECT_EQ(stub_->GetStatus(&wrong, {}, &status).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::TraceResponse trace;
  grpc::ClientContext tracing;
  EXPECT_EQ(v1::Tracing::NewStub(channel_)->Trace(&tracing, {}, &trace).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext right;
  right.AddMetadata("authorization", "Bearer secret");
  EXPECT_TRUE(stub_->GetModel(&right, {}, &model).ok());
  grpc::ClientContext twice;
  twice.AddMetadata("authorization", "Bearer secret");
  twice.AddMetadata("authorization", "Bearer nonsense");
  EXPECT_EQ(stub_->GetModel(&twice, {}, &model).error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

}  // namespace
}  // namespace tandem
