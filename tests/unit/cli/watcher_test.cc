#include "cli/watcher.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "cli/client.h"
#include "lib/base/strings.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem {
namespace {

// A gateway that answers nobody without the key "right".
class StrictGateway final : public v1::Inference::Service {
 public:
  explicit StrictGateway(const std::string& address) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::ClusterStatus* status) override {
    const auto key = context->client_metadata().find("authorization");
    if (needs_key && (key == context->client_metadata().end() || key->second != "Bearer right"))
      return {grpc::StatusCode::UNAUTHENTICATED, "incorrect API key provided"};
    status->set_state("ready");
    return grpc::Status::OK;
  }

  std::atomic<bool> needs_key = true;

 private:
  std::unique_ptr<grpc::Server> server_;
};

class WatcherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-watch-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    address_ = "unix:" + folder_ + "/grpc";
    gateway_ = std::make_unique<StrictGateway>(address_);
    std::ofstream(folder_ + "/ready") << R"({"http": "x", "grpc": "y"})";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // News until `wanted` is there.
  template <typename Wanted>
  Watcher::News Wait(Watcher& watcher, Wanted wanted) {
    while (true) {
      pollfd entry{watcher.event_fd(), POLLIN, 0};
      if (::poll(&entry, 1, 60'000) != 1) {
        ADD_FAILURE() << "no news within a minute";
        return {};
      }
      watcher.ClearEvent();
      Watcher::News news = watcher.Take();
      if (wanted(news)) return news;
    }
  }
  std::string folder_;
  std::string address_;
  std::unique_ptr<StrictGateway> gateway_;
};

TEST_F(WatcherTest, TheStatusComesFromTheAddressForOurOwnPrograms) {
  gateway_->needs_key = false;
  Watcher watcher("unix:" + folder_ + "/loader", folder_ + "/ready", address_);
  const Watcher::News news =
      Wait(watcher, [](const Watcher::News& n) { return n.status.has_value(); });
  ASSERT_TRUE(news.status.has_value());
  EXPECT_EQ(news.status->state(), "ready");
  EXPECT_EQ(news.grpc, "y");
}

// As editors on Windows and people leave key files.
TEST_F(WatcherTest, AKeyFileWithACommentAndCrLfGivesAKeyThatFits) {
  std::ofstream(folder_ + "/key") << "# for the cluster\r\n\r\n right \r\nother\r\n";
  const absl::StatusOr<std::string> key = ReadApiKey(folder_ + "/key");
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(*key, "right");
  GatewayClient client(address_, *key);
  EXPECT_TRUE(client.Status(absl::Seconds(60)).ok());
}

TEST_F(WatcherTest, AKeyThatNoHeaderCanCarryIsAnErrorNotAnAbort) {
  std::ofstream(folder_ + "/key") << "two\x01words\n";
  EXPECT_EQ(ReadApiKey(folder_ + "/key").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem
