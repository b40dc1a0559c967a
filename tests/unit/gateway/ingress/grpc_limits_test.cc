// Clients that mean harm, and what the port says of itself.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "tests/unit/gateway/ingress/grpc_fixture.h"
#include "tests/unit/gateway/ingress/http_test_client.h"

namespace tandem {
namespace {

constexpr char kGenerate[] = "/tandem.v1.Inference/Generate";
constexpr char kGetStatus[] = "/tandem.v1.Inference/GetStatus";
constexpr char kReflection[] = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
constexpr char kReflectionAlpha[] =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

class GrpcLimits : public GrpcTest {
 protected:
  void SetUp() override {}

  void UseKey() {
    auto keys = ApiKeys::Create({"secret"});
    ASSERT_TRUE(keys.ok());
    keys_ = *std::move(keys);
  }

  // A call that may send, or not, and read, or not, when it likes.
  template <typename Request, typename Response>
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> Open(const char* name,
                                                                    grpc::ClientContext* context) {
    const grpc::internal::RpcMethod method(name, grpc::internal::RpcMethod::BIDI_STREAMING);
    return std::unique_ptr<grpc::ClientReaderWriter<Request, Response>>(
        grpc::internal::ClientReaderWriterFactory<Request, Response>::Create(channel_.get(), method,
                                                                             context));
  }
  auto OpenGenerate(grpc::ClientContext* context) {
    return Open<v1::GenerateRequest, v1::GenerateResponse>(kGenerate, context);
  }

  // From now on clients take no more than they read and 64 KiB.
  void UseSmallWindows() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
  }

  static SampledToken LargeToken() {
    return {.token = Id("!"),
            .logprob = -0.5f,
            .top = std::vector<TokenLogprob>(20, {.token = Id("Hello"), .logprob = -1.0f})};
  }
};

// Without a key the message is not even asked for: what is half sent holds nothing.
TEST_F(GrpcLimits, TheKeyIsCheckedBeforeTheMessageCame) {
  UseKey();
  Start();
  grpc::ClientContext without;
  EXPECT_EQ(OpenGenerate(&without)->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext wrong;
  wrong.AddMetadata("authorization", "Bearer nonsense");
  auto status = Open<v1::GetStatusRequest, v1::ClusterStatus>(kGetStatus, &wrong);
  EXPECT_EQ(status->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext right;
  right.AddMetadata("authorization", "Bearer secret");
  auto call = OpenGenerate(&right);
  ASSERT_TRUE(call->Write(Request()));
  engine_.WaitForRequest(1);
  engine_.Finish(1, FinishReason::kStop);
  v1::GenerateResponse response;
  EXPECT_TRUE(call->Read(&response));
  EXPECT_EQ(response.finish_reason(), "stop");
  EXPECT_FALSE(call->Read(&response));
  EXPECT_TRUE(call->Finish().ok());
}

TEST_F(GrpcLimits, AMessageThatDoesNotComeEndsTheCall) {
  options_.read_timeout = absl::Milliseconds(50);
  Start();
  grpc::ClientContext first;
  EXPECT_EQ(OpenGenerate(&first)->Finish().error_code(), grpc::StatusCode::CANCELLED);
  grpc::ClientContext second;
  auto status = Open<v1::GetStatusRequest, v1::ClusterStatus>(kGetStatus, &second);
  EXPECT_EQ(status->Finish().error_code(), grpc::StatusCode::CANCELLED);
  grpc::ClientContext third;
  auto none = OpenGenerate(&third);
  none->WritesDone();
  EXPECT_EQ(none->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcLimits, AnAnswerThatNobodyReadsIsCancelled) {
  options_.write_timeout = absl::Milliseconds(100);
  Start();
  UseSmallWindows();
  grpc::ClientContext context;
  auto call = OpenGenerate(&context);
  v1::GenerateRequest request = Request();
  request.set_logprobs(20);
  ASSERT_TRUE(call->Write(request));
  engine_.WaitForRequest(1);
  for (int i = 0; i < 4000; ++i) engine_.Token(1, LargeToken());
  engine_.WaitForCancel(1);
  context.TryCancel();
  EXPECT_FALSE(call->Finish().ok());
}

TEST_F(GrpcLimits, AnAnswerThatIsReadFarTooSlowlyIsCancelled) {
  options_.write_timeout = absl::Hours(1);
  Start();
  UseSmallWindows();
  grpc::ClientContext context;
  auto call = OpenGenerate(&context);
  v1::GenerateRequest request = Request();
  request.set_logprobs(20);
  ASSERT_TRUE(call->Write(request));
  engine_.WaitForRequest(1);
  for (int i = 0; i < 20'000; ++i) engine_.Token(1, LargeToken());
  engine_.WaitForCancel(1);
  context.TryCancel();
  EXPECT_FALSE(call->Finish().ok());
}

// Connections that say nothing give way; one with a call does not.
TEST_F(GrpcLimits, ConnectionsWithoutCallsMakeRoom) {
  options_.max_connections = 4;
  Start();
  grpc::ClientContext context;
  auto running = stub_->Generate(&context, Request());
  engine_.WaitForRequest(1);
  std::vector<HttpTestClient> idle;
  for (int i = 0; i < 40; ++i) {
    idle.emplace_back(server_->address());
    grpc::ChannelArguments own;
    own.SetInt("test.number", i);
    const auto channel =
        grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), own);
    grpc::ClientContext other;
    other.set_wait_for_ready(true);
    v1::ServedModel model;
    EXPECT_TRUE(v1::Inference::NewStub(channel)->GetModel(&other, {}, &model).ok()) << i;
  }
  EXPECT_TRUE(idle.front().ReadToEnd());
  engine_.Finish(1, FinishReason::kStop);
  v1::GenerateResponse response;
  while (running->Read(&response)) {
  }
  EXPECT_TRUE(running->Finish().ok());
}

TEST_F(GrpcLimits, ATakenPortIsAnErrorThatSaysSo) {
  Start();
  const auto address = ParseListenAddress(server_->address());
  ASSERT_TRUE(address.ok());
  const absl::Status status =
      GrpcServer::Start(*address, options_,
                        {.serving = &serving_, .keys = &keys_, .metrics = &metrics_, .status = {}})
          .status();
  EXPECT_NE(status.message().find(server_->address()), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find("in use"), absl::string_view::npos) << status;
}

TEST_F(GrpcLimits, StreamsOfAConnectionAreBounded) {
  options_.max_streams_per_connection = 2;
  Start();
  grpc::ClientContext contexts[3];
  auto first = stub_->Generate(&contexts[0], Request());
  engine_.WaitForRequest(1);
  auto second = stub_->Generate(&contexts[1], Request());
  engine_.WaitForRequest(2);
  contexts[2].set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  auto third = stub_->Generate(&contexts[2], Request());
  EXPECT_EQ(third->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(engine_.submitted(), 2u);
  for (std::uint64_t i = 1; i <= 2; ++i) engine_.Finish(i, FinishReason::kStop);
  v1::GenerateResponse response;
  while (first->Read(&response)) {
  }
  while (second->Read(&response)) {
  }
  EXPECT_TRUE(first->Finish().ok());
  EXPECT_TRUE(second->Finish().ok());
}

TEST_F(GrpcLimits, CompressedMessagesAreNotRead) {
  Start();
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::TokenizeRequest request;
  request.set_text(std::string(100'000, ' '));
  v1::TokenizeResponse response;
  EXPECT_EQ(stub_->Tokenize(&context, request, &response).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcLimits, AMessageOverTheLimitIsRefused) {
  Start();
  const auto tokenize = [this](std::size_t bytes) {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_text(std::string(bytes, '!'));
    v1::TokenizeResponse response;
    return stub_->Tokenize(&context, request, &response).error_code();
  };
  EXPECT_EQ(tokenize(1 << 20), grpc::StatusCode::OK);
  EXPECT_EQ(tokenize((1 << 20) + 1), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(tokenize(9 << 20), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// What is sent in few bytes may take many where it lies: two for each of these chat messages.
TEST_F(GrpcLimits, MessagesAreBoundedInMemoryTogether) {
  options_.max_request_memory = 2 << 20;
  Start();
  v1::GenerateRequest small_parts;
  for (int i = 0; i < 100'000; ++i) small_parts.mutable_chat()->add_messages();
  ASSERT_LT(small_parts.ByteSizeLong(), 300'000u);
  const grpc::Status status = Outcome(small_parts);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("2097152 bytes of memory"), std::string::npos)
      << status.error_message();
  EXPECT_NE(metrics_.Text().find("tandem_rejections_total{reason=\"too_large\"} 1\n"),
            std::string::npos);
  // What is planned, answered or refused holds nothing: the same again and again.
  v1::GenerateRequest large = Request();
  large.set_user(std::string(1'500'000, 'u'));
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> running;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    running.push_back(stub_->Generate(contexts.back().get(), large));
    engine_.WaitForRequest(i);
    large.set_model("other");
    EXPECT_EQ(Outcome(large).error_code(), grpc::StatusCode::NOT_FOUND);
    large.clear_model();
  }
  v1::GenerateResponse response;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    engine_.Finish(i, FinishReason::kStop);
    while (running[i - 1]->Read(&response)) continue;
    EXPECT_TRUE(running[i - 1]->Finish().ok());
  }
}

// Who has no key can begin few messages at a time, and holds up nobody whose message comes.
TEST_F(GrpcLimits, WithoutAKeyFewMessagesComeAtATime) {
  UseKey();
  Start();
  using grpc::health::v1::HealthCheckRequest;
  using grpc::health::v1::HealthCheckResponse;
  constexpr int kSilent = 12;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::thread> silent;
  std::mutex mutex;
  std::condition_variable changed;
  int ended = 0;
  for (int i = 0; i < kSilent; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    silent.emplace_back([&, context = contexts.back().get()] {
      auto call =
          Open<HealthCheckRequest, HealthCheckResponse>("/grpc.health.v1.Health/Check", context);
      EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
      const std::lock_guard<std::mutex> lock(mutex);
      ++ended;
      changed.notify_all();
    });
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::minutes(1), [&] { return ended >= 4; }));
  }
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    HealthCheckResponse response;
    const grpc::Status status = grpc::health::v1::Health::NewStub(channel_)->Check(
        &context, HealthCheckRequest(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  }
  for (const auto& context : contexts) context->TryCancel();
  for (std::thread& thread : silent) thread.join();
}

// Asked without a key: what is asked comes back with the answer.
TEST_F(GrpcLimits, QuestionsOfReflectionAreShort) {
  namespace reflection = grpc::reflection::v1;
  Start();
  for (const std::size_t bytes : {4000, 5000}) {
    grpc::ClientContext context;
    auto call = Open<reflection::ServerReflectionRequest, reflection::ServerReflectionResponse>(
        kReflection, &context);
    reflection::ServerReflectionRequest request;
    request.set_file_containing_symbol(std::string(bytes, 'x'));
    ASSERT_TRUE(call->Write(request));
    call->WritesDone();
    reflection::ServerReflectionResponse response;
    EXPECT_EQ(call->Read(&response), bytes < 4096);
    EXPECT_EQ(call->Finish().error_code(),
              bytes < 4096 ? grpc::StatusCode::OK : grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(GrpcLimits, ManyTokensComeInSeveralMessages) {
  Start();
  grpc::ClientContext context;
  v1::GenerateRequest request = Request();
  request.set_logprobs(20);
  auto reader = stub_->Generate(&context, request);
  engine_.WaitForRequest(1);
  for (int i = 0; i < 3000; ++i) engine_.Token(1, LargeToken());
  engine_.Finish(1, FinishReason::kLength);
  v1::GenerateResponse response;
  std::string text;
  int tokens = 0;
  int last_messages = 0;
  while (reader->Read(&response)) {
    text += response.text();
    EXPECT_LE(response.tokens_size(), 1024);
    EXPECT_EQ(response.tokens_size(), response.logprobs_size());
    tokens += response.tokens_size();
    last_messages += response.has_usage();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, std::string(3000, '!'));
  EXPECT_EQ(tokens, 3000);
  EXPECT_EQ(last_messages, 1);
  EXPECT_EQ(response.usage().completion_tokens(), 3000);
}

TEST_F(GrpcLimits, EchoedLogprobsAreBounded) {
  Start();
  // The context of the fake engine is too small for the bound: the rule itself.
  EXPECT_TRUE(CheckEchoBytes(10'000, 20).ok());
  EXPECT_TRUE(CheckEchoBytes(1'000'000, -1).ok());
  EXPECT_FALSE(CheckEchoBytes(131'072, 20).ok());
}

// What Tandem's own commands ask all the time.
TEST_F(GrpcLimits, QuestionsAboutTheServerAreNotCounted) {
  Start();
  v1::ClusterStatus status;
  v1::ServedModel model;
  v1::DetokenizeResponse text;
  grpc::ClientContext contexts[3];
  ASSERT_TRUE(stub_->GetStatus(&contexts[0], {}, &status).ok());
  ASSERT_TRUE(stub_->GetModel(&contexts[1], {}, &model).ok());
  ASSERT_TRUE(stub_->Detokenize(&contexts[2], {}, &text).ok());
  const std::string metrics = metrics_.Text();
  EXPECT_EQ(metrics.find("GetStatus"), std::string::npos) << metrics;
  EXPECT_EQ(metrics.find("GetModel"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("grpc.Detokenize"), std::string::npos) << metrics;
}

TEST_F(GrpcLimits, ReflectionDescribesEveryService) {
  namespace reflection = grpc::reflection::v1;
  Start();
  for (const char* name : {kReflection, kReflectionAlpha}) {
    grpc::ClientContext context;
    auto call = Open<reflection::ServerReflectionRequest, reflection::ServerReflectionResponse>(
        name, &context);
    reflection::ServerReflectionRequest request;
    reflection::ServerReflectionResponse response;
    request.set_list_services("*");
    ASSERT_TRUE(call->Write(request) && call->Read(&response));
    std::set<std::string> services;
    for (const auto& service : response.list_services_response().service()) {
      services.insert(service.name());
    }
    EXPECT_TRUE(services.contains("tandem.v1.Inference"));
    EXPECT_TRUE(services.contains("tandem.v1.Tracing"));
    EXPECT_TRUE(services.contains("tandem.v1.Control"));
    EXPECT_TRUE(services.contains("grpc.health.v1.Health"));
    for (const std::string& service : services) {
      request.set_file_containing_symbol(service);
      ASSERT_TRUE(call->Write(request) && call->Read(&response));
      EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1) << service;
    }
    request.set_file_containing_symbol("no.such.Thing");
    ASSERT_TRUE(call->Write(request) && call->Read(&response));
    EXPECT_EQ(response.error_response().error_code(), 5);
    request.set_file_by_filename("tandem/v1/inference.proto");
    ASSERT_TRUE(call->Write(request) && call->Read(&response));
    EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1);
    call->WritesDone();
    EXPECT_TRUE(call->Finish().ok());
  }
}

TEST_F(GrpcLimits, HealthAnswersForTheServerAndForItsService) {
  Start();
  const auto stub = grpc::health::v1::Health::NewStub(channel_);
  for (const char* service : {"", "tandem.v1.Inference"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    auto watch = stub->Watch(&context, request);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(watch->Read(&response));
    for (const bool ready : {true, false, true}) {
      engine_.SetReady(ready ? absl::OkStatus() : absl::UnavailableError("away"));
      server_->LookAtHealth();
      const auto expected = ready ? grpc::health::v1::HealthCheckResponse::SERVING
                                  : grpc::health::v1::HealthCheckResponse::NOT_SERVING;
      while (response.status() != expected) ASSERT_TRUE(watch->Read(&response));
      grpc::ClientContext check;
      ASSERT_TRUE(stub->Check(&check, request, &response).ok());
      EXPECT_EQ(response.status(), expected);
    }
  }
  grpc::ClientContext unknown_watch;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("no.such.Service");
  auto unknown_service = stub->Watch(&unknown_watch, request);
  grpc::health::v1::HealthCheckResponse found;
  ASSERT_TRUE(unknown_service->Read(&found));
  EXPECT_EQ(found.status(), grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN);
  grpc::ClientContext watching;
  request.clear_service();
  auto watch = stub->Watch(&watching, request);
  ASSERT_TRUE(watch->Read(&found));
  grpc::ClientContext unknown;
  request.set_service("no.such.Service");
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_EQ(stub->Check(&unknown, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  // The end waits for nobody who watches.
  server_->Shutdown(absl::Minutes(5));
  for (auto* left : {watch.get(), unknown_service.get()}) {
    while (left->Read(&found)) continue;
    EXPECT_EQ(left->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
}

}  // namespace
}  // namespace tandem
