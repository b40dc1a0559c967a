#include "lib/weights/region_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/shared_memory.h"
#include "lib/base/unix_socket.h"
#include "lib/weights/random_model.h"
#include "tests/unit/lib/base/fd_hog.h"
#include "tests/unit/lib/weights/test_config.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

RegionManifest Named(const std::string& name) {
  RegionManifest manifest;
  manifest.name = name;
  return manifest;
}

class RegionSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "tandem-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder_ + "/regions";
    absl::StatusOr<std::unique_ptr<RegionServer>> server = RegionServer::Listen(path_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override {
    server_.reset();
    EXPECT_NE(::access(path_.c_str(), F_OK), 0) << "the socket file was left behind";
    ::rmdir(folder_.c_str());
  }
  void Publish(const Region& region) {
    EXPECT_TRUE(server_->Publish(region.manifest(), UniqueFd(::dup(region.fd()))).ok());
  }

  std::string folder_, path_;
  std::unique_ptr<RegionServer> server_;
};

TEST_F(RegionSocketTest, HandsOutTheVeryPages) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kInt8, 1);
  ASSERT_TRUE(model.ok()) << model.status();
  for (const auto& [name, region] : model->regions) Publish(*region);
  for (const auto& [name, region] : model->regions) {
    absl::StatusOr<RegionDescriptors> got =
        FetchRegion(path_, region->manifest(), absl::Seconds(10));
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*IdentityOf(got->memfd.get()), *IdentityOf(region->fd()));
    EXPECT_TRUE(Region::Open(std::move(got->memfd), region->manifest(), SmallConfig(),
                             /*verify_checksums=*/true)
                    .ok());
  }
}

TEST_F(RegionSocketTest, ManyClientsAtOnce) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 1);
  ASSERT_TRUE(model.ok());
  for (const auto& [name, region] : model->regions) Publish(*region);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i)
        EXPECT_TRUE(FetchRegion(path_, Named("layer.0.ffn"), absl::Seconds(10)).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(RegionSocketTest, NamesWhatIsNotThere) {
  const absl::Status status = FetchRegion(path_, Named("layer.9.ffn"), absl::Seconds(10)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("region 'layer.9.ffn' is not published"));
  EXPECT_FALSE(FetchRegion(folder_ + "/nobody", Named("embedding"), absl::Seconds(1)).ok());
}

TEST_F(RegionSocketTest, PublishingTwiceIsRefused) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 1);
  ASSERT_TRUE(model.ok());
  const Region& region = *model->regions.at("embedding");
  Publish(region);
  EXPECT_EQ(server_->Publish(region.manifest(), UniqueFd()).code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(RegionSocketTest, SocketIsForItsOwnerOnly) {
  struct stat info;
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(RegionSocketTest, BrokenClientsDoNotHurtOthers) {
  {
    const absl::StatusOr<UniqueFd> silent = ConnectUnix(path_, absl::Seconds(5));
    ASSERT_TRUE(silent.ok());  // says nothing and goes
  }
  const absl::StatusOr<UniqueFd> half = ConnectUnix(path_, absl::Seconds(5));
  ASSERT_TRUE(half.ok());
  ASSERT_EQ(::write(half->get(),
                    "\x05\x00\x00\x00"
                    "ab",
                    6),
            6);  // announces 5 bytes, sends 2
  const absl::StatusOr<UniqueFd> long_name = ConnectUnix(path_, absl::Seconds(5));
  ASSERT_TRUE(long_name.ok());
  ASSERT_EQ(::write(long_name->get(), "\xff\xff\xff\xff", 4), 4);
  EXPECT_EQ(FetchRegion(path_, Named("embedding"), absl::Seconds(10)).status().code(),
            absl::StatusCode::kNotFound);
}

// The first to fetch it gets it at once; from then on somebody could have written to it.
TEST_F(RegionSocketTest, ADamagedRegionIsNotHandedOutAgain) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kInt8, 1);
  ASSERT_TRUE(model.ok());
  const Region& region = *model->regions.at("layer.0.ffn");
  server_.reset();
  std::vector<absl::Status> damage;
  RegionServer::Options options;
  options.on_damage = [&](const absl::Status& status) { damage.push_back(status); };
  server_ = *RegionServer::Listen(path_, std::move(options));
  Publish(region);
  const auto fetch = [&] { return FetchRegion(path_, region.manifest(), absl::Seconds(10)); };
  EXPECT_TRUE(fetch().ok());
  EXPECT_TRUE(fetch().ok());
  EXPECT_TRUE(damage.empty());
  const std::string pages = "/proc/self/fd/" + std::to_string(region.fd());
  const UniqueFd writer(::open(pages.c_str(), O_RDWR | O_CLOEXEC));
  const auto offset = static_cast<off_t>(region.manifest().tensors[0].value_offset);
  char byte = 0;
  ASSERT_EQ(::pread(writer.get(), &byte, 1, offset), 1);
  ++byte;
  ASSERT_EQ(::pwrite(writer.get(), &byte, 1, offset), 1);
  const absl::Status refused = fetch().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("expected checksum"));
  ASSERT_EQ(damage.size(), 1u);
  EXPECT_EQ(damage[0].code(), absl::StatusCode::kDataLoss);
}

TEST_F(RegionSocketTest, AnswersWithoutAFreeDescriptor) {
  const absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 1);
  ASSERT_TRUE(model.ok());
  Publish(*model->regions.at("embedding"));
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    const FdHog hog;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    ASSERT_TRUE(SendFdMessage(client.get(), "layer.9.ffn", {}).ok());
    const absl::StatusOr<FdMessage> answer = ReceiveFdMessage(client.get(), absl::Seconds(10));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_THAT(answer->bytes, HasSubstr("not published"));
  }
  EXPECT_TRUE(FetchRegion(path_, Named("embedding"), absl::Seconds(10)).ok());
}

}  // namespace
}  // namespace tandem
