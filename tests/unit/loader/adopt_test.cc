// A loader that came back, against workers that hold its regions, and against others that answer in
// their place.
#include "loader/serve/adopt.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "lib/base/unix_socket.h"
#include "lib/weights/random_model.h"
#include "lib/wire/weights_wire.h"
#include "tandem/v1/descriptors.pb.h"
#include "tandem/v1/loader.pb.h"
#include "tests/unit/lib/weights/test_config.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

constexpr char kFingerprint[] = "0123456789abcdef";

struct Gift {
  v1::RegionManifest manifest;
  std::vector<int> fds;
};

// Answers one claim as a worker does.
class FakeWorker {
 public:
  FakeWorker(const std::string& path, std::vector<Gift> gifts, bool ends = true)
      : socket_(*UnixListener::Listen(path)), thread_([this, gifts = std::move(gifts), ends] {
          const absl::StatusOr<UniqueFd> connection = socket_->Accept();
          if (!connection.ok()) return;
          const absl::StatusOr<FdMessage> message =
              ReceiveFdMessage(connection->get(), absl::Seconds(30));
          v1::DescriptorHello hello;
          EXPECT_TRUE(message.ok() && hello.ParseFromString(message->bytes));
          EXPECT_EQ(hello.regions().fingerprint(), kFingerprint);
          for (const Gift& gift : gifts) {
            v1::RegionGift reply;
            *reply.mutable_region() = gift.manifest;
            if (!SendFdMessage(connection->get(), reply.SerializeAsString(), gift.fds).ok()) return;
          }
          if (ends) SendFdMessage(connection->get(), "", {}).IgnoreError();
        }) {}
  ~FakeWorker() {
    socket_->Stop();
    thread_.join();
  }

 private:
  const std::unique_ptr<UnixListener> socket_;
  std::thread thread_;
};

class AdoptTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), WeightFormat::kInt8, 5);
    ASSERT_TRUE(model.ok());
    model_ = *std::move(model);
    request_.sockets = {folder_ / "worker"};
    request_.fingerprint = kFingerprint;
    request_.config = SmallConfig();
    for (const auto& [name, region] : model_.regions) {
      RegionManifest layout = region->manifest();
      for (TensorEntry& entry : layout.tensors) entry.checksum = 0;
      request_.layouts.push_back(layout);
      gifts_.push_back({ToProto(region->manifest()), {region->fd()}});
    }
  }
  std::vector<SealedRegion> Adopt(bool ends = true) {
    const FakeWorker worker(folder_ / "worker", gifts_, ends);
    return AdoptRegions(request_, pool_);
  }
  const Region& At(std::size_t i) const { return *model_.regions.at(gifts_[i].manifest.name()); }

  TempFolder folder_;
  ThreadPool pool_{2};
  RandomModel model_;
  AdoptRequest request_;
  std::vector<Gift> gifts_;
};

TEST_F(AdoptTest, TakesBackTheVeryPages) {
  const std::vector<SealedRegion> regions = Adopt();
  ASSERT_EQ(regions.size(), model_.regions.size());
  for (const SealedRegion& region : regions) {
    const Region& before = *model_.regions.at(region.manifest.name);
    EXPECT_EQ(*IdentityOf(region.fd.get()), *IdentityOf(before.fd()));
    EXPECT_EQ(region.manifest.tensors[0].checksum, before.manifest().tensors[0].checksum);
  }
}

TEST_F(AdoptTest, NobodyThereIsNoError) {
  EXPECT_TRUE(AdoptRegions(request_, pool_).empty());
  request_.sockets.clear();
  EXPECT_TRUE(AdoptRegions(request_, pool_).empty());
}

TEST_F(AdoptTest, AChangedByteIsFoundAndTheOthersStay) {
  const std::string pages = "/proc/self/fd/" + std::to_string(At(1).fd());
  const UniqueFd writer(::open(pages.c_str(), O_RDWR | O_CLOEXEC));
  const auto offset = static_cast<off_t>(At(1).manifest().tensors.back().value_offset);
  char byte = 0;
  ASSERT_EQ(::pread(writer.get(), &byte, 1, offset), 1);
  ++byte;
  ASSERT_EQ(::pwrite(writer.get(), &byte, 1, offset), 1);
  const std::vector<SealedRegion> regions = Adopt();
  EXPECT_EQ(regions.size(), gifts_.size() - 1);
  for (const SealedRegion& region : regions) EXPECT_NE(region.manifest.name, At(1).manifest().name);
}

TEST_F(AdoptTest, AnotherLayoutIsNotTaken) {
  request_.layouts[0].tensors[0].value_offset += 4096;
  request_.layouts.erase(request_.layouts.begin() + 1);
  EXPECT_EQ(Adopt().size(), gifts_.size() - 2);
}

TEST_F(AdoptTest, DescriptorsOfTheWrongKindNumberOrSizeAreNotTaken) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  const UniqueFd write_end(pipe[1]);
  const SharedMemory unsealed = *SharedMemory::Create("unsealed", At(1).manifest().bytes);
  const SharedMemory small = *SharedMemory::Create("small", 4096);
  ASSERT_TRUE(SealForGood(small.fd.get()).ok());
  gifts_[0].fds = {read_end.get()};
  gifts_[1].fds = {unsealed.fd.get()};
  gifts_[2].fds = {small.fd.get()};
  gifts_[3].fds = {};
  gifts_[4].fds = {At(4).fd(), At(4).fd()};
  EXPECT_EQ(Adopt().size(), gifts_.size() - 5);
}

TEST_F(AdoptTest, NonsenseEndsTheExchangeAndKeepsWhatIsWhole) {
  gifts_[2].manifest.mutable_tensors(0)->set_rows(-5);
  EXPECT_EQ(Adopt().size(), gifts_.size() - 1);
  EXPECT_EQ(Adopt(/*ends=*/false).size(), gifts_.size() - 1);
}

}  // namespace
}  // namespace tandem
