#include "loader/serve/loader_server.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/weights/region_socket.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "loader/serve/watch_hub.h"
#include "tandem/v1/loader.grpc.pb.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class LoaderServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto source = ModelSource::Open(absl::StrCat(kGoldenData, "/tiny"));
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
    auto packer = ModelPacker::Create(*source_, QuantMode::kInt8);
    ASSERT_TRUE(packer.ok());
    packer_ = std::make_unique<ModelPacker>(*std::move(packer));
    tracker_ =
        std::make_unique<ProgressTracker>(packer_->total_bytes(), packer_->total_tensors(), clock_);
    Start("127.0.0.1:0");
  }
  void Start(const std::string& listen) {
    auto server =
        LoaderServer::Start({listen, folder_ / "regions"}, *source_, *packer_, "int8", *tracker_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxModelMessageBytes);
    stub_ = v1::Loader::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), arguments));
  }
  void Publish() {
    ThreadPool pool(2);
    PackOptions options;
    options.on_progress = [&](const PackProgress& p) {
      tracker_->Add(p.tensor->name, p.bytes, p.tensor_is_done);
    };
    auto regions = packer_->Pack(pool, options);
    ASSERT_TRUE(regions.ok());
    ASSERT_TRUE(server_->Publish(*std::move(regions)).ok());
  }
  std::vector<v1::LoadProgress> WatchToTheEnd() {
    grpc::ClientContext context;
    const auto reader = stub_->Watch(&context, v1::WatchRequest());
    std::vector<v1::LoadProgress> seen;
    v1::LoadProgress progress;
    while (reader->Read(&progress)) seen.push_back(progress);
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return seen;
  }

  TempFolder folder_;
  ManualClock clock_;
  std::unique_ptr<const ModelSource> source_;
  std::unique_ptr<ModelPacker> packer_;
  std::unique_ptr<ProgressTracker> tracker_;
  std::unique_ptr<LoaderServer> server_;
  std::unique_ptr<v1::Loader::Stub> stub_;
};

TEST_F(LoaderServerTest, GetModelAnswersBeforeTheWeightsAreThere) {
  grpc::ClientContext context;
  v1::Model model;
  ASSERT_TRUE(stub_->GetModel(&context, {}, &model).ok());
  const auto config = FromProto(model.config());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config, source_->config());
  const auto vocabulary = FromProto(model.vocabulary());
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pieces.size(), 2048u);
  EXPECT_THAT(model.files(), ::testing::ElementsAre("model.safetensors"));
  EXPECT_EQ(model.weight_format(), "int8");
  EXPECT_GT(model.weight_bytes(), 1'000'000u);
  EXPECT_EQ(model.region_socket(), folder_ / "regions");
  EXPECT_EQ(model.fingerprint().size(), 16u);
}

TEST_F(LoaderServerTest, RegionsComeAfterReady) {
  {
    grpc::ClientContext context;
    v1::GetRegionsResponse response;
    EXPECT_EQ(stub_->GetRegions(&context, {}, &response).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
    RegionManifest early;
    early.name = "embedding";
    EXPECT_EQ(FetchRegion(folder_ / "regions", early, absl::Seconds(10)).status().code(),
              absl::StatusCode::kNotFound);
  }
  Publish();
  grpc::ClientContext context;
  v1::GetRegionsResponse response;
  ASSERT_TRUE(stub_->GetRegions(&context, {}, &response).ok());
  ASSERT_EQ(response.regions_size(), 17);
  for (const v1::RegionManifest& message : response.regions()) {
    const auto manifest = FromProto(message, source_->config());
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    auto got = FetchRegion(folder_ / "regions", *manifest, absl::Seconds(10));
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*IdentityOf(got->memfd.get()), manifest->identity);
    const auto region = Region::Open(std::move(got->memfd), *manifest, source_->config(),
                                     /*verify_checksums=*/true, std::move(got->windows));
    EXPECT_TRUE(region.ok()) << region.status();
  }
}

TEST_F(LoaderServerTest, RegionsByName) {
  Publish();
  v1::GetRegionsRequest request;
  request.add_names("layer.3.ffn");
  v1::GetRegionsResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->GetRegions(&context, request, &response).ok());
    ASSERT_EQ(response.regions_size(), 1);
    EXPECT_EQ(response.regions(0).name(), "layer.3.ffn");
  }
  request.add_names("layer.8.ffn");
  grpc::ClientContext context;
  const grpc::Status status = stub_->GetRegions(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("region 'layer.8.ffn'"));
}

TEST_F(LoaderServerTest, WatchEndsWithReadyForEarlyAndLateWatchers) {
  std::vector<v1::LoadProgress> early;
  std::thread watcher([&] { early = WatchToTheEnd(); });
  Publish();
  watcher.join();
  ASSERT_FALSE(early.empty());
  for (std::size_t i = 0; i + 1 < early.size(); ++i)
    EXPECT_EQ(early[i].state(), v1::LoadProgress::LOADING);
  const std::vector<v1::LoadProgress> late = WatchToTheEnd();
  ASSERT_EQ(late.size(), 1u);
  for (const v1::LoadProgress& last : {early.back(), late.back()}) {
    EXPECT_EQ(last.state(), v1::LoadProgress::READY);
    EXPECT_EQ(last.bytes_done(), packer_->total_bytes());
    EXPECT_EQ(last.bytes_total(), packer_->total_bytes());
    EXPECT_EQ(last.tensors_done(), packer_->total_tensors());
    EXPECT_EQ(last.seconds_left(), 0);
  }
}

TEST_F(LoaderServerTest, WatchEndsWithTheError) {
  server_->Fail(
      absl::InvalidArgumentError("m.gguf: tensor 'x': expected one thing, found another"));
  const std::vector<v1::LoadProgress> seen = WatchToTheEnd();
  EXPECT_EQ(seen.back().state(), v1::LoadProgress::FAILED);
  EXPECT_EQ(seen.back().error(), "m.gguf: tensor 'x': expected one thing, found another");
}

TEST_F(LoaderServerTest, ManyWatchersAreBounded) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::LoadProgress>>> readers;
  v1::LoadProgress progress;
  for (std::size_t i = 0; i < WatchHub::kMaxWatchers; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Watch(contexts.back().get(), v1::WatchRequest()));
    ASSERT_TRUE(readers.back()->Read(&progress));
  }
  grpc::ClientContext context;
  const auto one_more = stub_->Watch(&context, v1::WatchRequest());
  EXPECT_FALSE(one_more->Read(&progress));
  EXPECT_EQ(one_more->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const auto& c : contexts) c->TryCancel();
  for (const auto& r : readers) {
    while (r->Read(&progress)) {
    }
    EXPECT_EQ(r->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(LoaderServerTest, ShutdownEndsWatchers) {
  grpc::ClientContext context;
  const auto reader = stub_->Watch(&context, v1::WatchRequest());
  v1::LoadProgress progress;
  ASSERT_TRUE(reader->Read(&progress));
  EXPECT_EQ(progress.state(), v1::LoadProgress::LOADING);
  EXPECT_LT(progress.seconds_left(), 0);
  server_->Shutdown(absl::ZeroDuration());
  while (reader->Read(&progress)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(LoaderServerTest, SecondServerIsRefused) {
  const auto busy_socket = LoaderServer::Start({"127.0.0.1:0", folder_ / "regions"}, *source_,
                                               *packer_, "int8", *tracker_);
  EXPECT_EQ(busy_socket.status().code(), absl::StatusCode::kAlreadyExists);
  const auto busy_port = LoaderServer::Start({server_->address(), folder_ / "other"}, *source_,
                                             *packer_, "int8", *tracker_);
  EXPECT_EQ(busy_port.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(LoaderServerTest, UnixSocketAndItsTakeover) {
  server_.reset();
  const std::string address = absl::StrCat("unix:", folder_ / "grpc");
  Start(address);
  EXPECT_EQ(server_->address(), address);
  grpc::ClientContext context;
  v1::Model model;
  EXPECT_TRUE(stub_->GetModel(&context, {}, &model).ok());
  const auto second =
      LoaderServer::Start({address, folder_ / "other"}, *source_, *packer_, "int8", *tracker_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(ProgressTracker, EstimatesTheRestFromTheRate) {
  ManualClock clock;
  ProgressTracker tracker(1000, 3, clock);
  EXPECT_LT(tracker.Get().seconds_left, 0);
  clock.Advance(absl::Seconds(2));
  tracker.Add("a", 250, true);
  const LoadSnapshot now = tracker.Get();
  EXPECT_NEAR(now.seconds_left, 6, 1e-3);
  EXPECT_EQ(now.current, "a");
  EXPECT_EQ(now.tensors_done, 1u);
  tracker.SetReady();
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(tracker.Get().elapsed, absl::Seconds(2));
  tracker.SetFailed(absl::InternalError("late"));
  EXPECT_EQ(tracker.Get().state, LoadState::kReady);
}

}  // namespace
}  // namespace tandem
