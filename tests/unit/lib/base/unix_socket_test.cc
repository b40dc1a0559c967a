#include "lib/base/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lib/base/shared_memory.h"

namespace tandem {
namespace {

constexpr absl::Duration kLong = absl::Seconds(30);

class UnixSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "tandem-socket-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = absl::StrCat(folder_, "/s");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A connected pair through the path.
  void Connect() {
    listen_ = *ListenUnix(path_);
    client_ = *ConnectUnix(path_, kLong);
    server_ = *AcceptUnix(listen_.get(), -1);
  }
  std::string folder_;
  std::string path_;
  UniqueFd listen_;
  UniqueFd client_;
  UniqueFd server_;
};

TEST_F(UnixSocketTest, TheSocketIsPrivate) {
  const UniqueFd fd = *ListenUnix(path_);
  struct stat info;
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(UnixSocketTest, AMessageWithDescriptorsArrives) {
  Connect();
  const SharedMemory memory = *SharedMemory::Create("test", 4096);
  memory.mapping.data()[5] = std::byte{9};
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(SendFdMessage(client_.get(), "hello", {memory.fd.get(), event.get()}).ok());
  absl::StatusOr<FdMessage> message = ReceiveFdMessage(server_.get(), kLong);
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->bytes, "hello");
  ASSERT_EQ(message->fds.size(), 2u);
  EXPECT_EQ(*IdentityOf(message->fds[0].get()), *IdentityOf(memory.fd.get()));
  EXPECT_EQ((*Mapping::Map(message->fds[0].get(), 4096, false)).data()[5], std::byte{9});
}

TEST_F(UnixSocketTest, MessagesKeepTheirBounds) {
  Connect();
  const std::string large(kMaxFdMessageBytes, 'x');
  std::thread sender([&] {
    EXPECT_TRUE(SendFdMessage(client_.get(), "", {}).ok());
    EXPECT_TRUE(SendFdMessage(client_.get(), large, {}).ok());
    EXPECT_TRUE(SendFdMessage(client_.get(), "end", {}).ok());
  });
  EXPECT_EQ(ReceiveFdMessage(server_.get(), kLong)->bytes, "");
  EXPECT_EQ(ReceiveFdMessage(server_.get(), kLong)->bytes, large);
  EXPECT_EQ(ReceiveFdMessage(server_.get(), kLong)->bytes, "end");
  sender.join();
}

TEST_F(UnixSocketTest, TooLargeIsRefusedAtBothEnds) {
  Connect();
  EXPECT_TRUE(absl::IsInvalidArgument(
      SendFdMessage(client_.get(), std::string(kMaxFdMessageBytes + 1, 'x'), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      SendFdMessage(client_.get(), "x", std::vector<int>(kMaxFdsPerMessage + 1, client_.get()))));
  const char header[] = {'\x01', '\x00', '\x10', '\x00'};  // one byte too many
  ASSERT_EQ(::send(client_.get(), header, sizeof(header), 0), 4);
  EXPECT_TRUE(absl::IsInvalidArgument(ReceiveFdMessage(server_.get(), kLong).status()));
}

TEST_F(UnixSocketTest, TheMostDescriptorsFit) {
  Connect();
  ASSERT_TRUE(
      SendFdMessage(client_.get(), "x", std::vector<int>(kMaxFdsPerMessage, client_.get())).ok());
  absl::StatusOr<FdMessage> message = ReceiveFdMessage(server_.get(), kLong);
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->fds.size(), kMaxFdsPerMessage);
}

TEST_F(UnixSocketTest, TheEndOfTheStreamHasTwoKinds) {
  Connect();
  client_.Reset();
  EXPECT_TRUE(absl::IsOutOfRange(ReceiveFdMessage(server_.get(), kLong).status()));
  client_ = *ConnectUnix(path_, kLong);
  server_ = *AcceptUnix(listen_.get(), -1);
  const char header[] = {'\x05', '\x00', '\x00', '\x00', 'a'};
  ASSERT_EQ(::send(client_.get(), header, sizeof(header), 0), 5);
  client_.Reset();
  EXPECT_TRUE(absl::IsUnavailable(ReceiveFdMessage(server_.get(), kLong).status()));
}

TEST_F(UnixSocketTest, ASilentPeerTimesOut) {
  Connect();
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(ReceiveFdMessage(server_.get(), absl::Milliseconds(20)).status()));
  const char header[] = {'\x05', '\x00', '\x00', '\x00', 'a'};
  ASSERT_EQ(::send(client_.get(), header, sizeof(header), 0), 5);
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(ReceiveFdMessage(server_.get(), absl::Milliseconds(20)).status()));
}

TEST_F(UnixSocketTest, AcceptIsWoken) {
  const UniqueFd listen = *ListenUnix(path_);
  const UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  std::thread waker([&] {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(wake.get(), &one, sizeof(one)), 8);
  });
  EXPECT_TRUE(absl::IsCancelled(AcceptUnix(listen.get(), wake.get()).status()));
  waker.join();
}

TEST_F(UnixSocketTest, StaleSocketsAreReplacedLiveOnesAreNot) {
  UniqueFd first = *ListenUnix(path_);
  EXPECT_TRUE(absl::IsAlreadyExists(ListenUnix(path_).status()));
  first.Reset();
  EXPECT_TRUE(ListenUnix(path_).ok());
}

TEST_F(UnixSocketTest, OtherFilesStay) {
  std::ofstream(path_) << "precious";
  EXPECT_TRUE(absl::IsAlreadyExists(ListenUnix(path_).status()));
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
}

TEST_F(UnixSocketTest, PathsAreCheckedAndNamed) {
  const std::string longest =
      absl::StrCat(folder_, "/", std::string(107 - folder_.size() - 1, 'p'));
  EXPECT_TRUE(ListenUnix(longest).ok());
  const absl::Status status = ListenUnix(absl::StrCat(longest, "p")).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(std::string(status.message()).find(longest), std::string::npos);
  EXPECT_FALSE(ListenUnix("").ok());
  EXPECT_FALSE(ConnectUnix(absl::StrCat(folder_, "/nobody"), kLong).ok());
}

TEST_F(UnixSocketTest, ThePeersUidIsOurs) {
  Connect();
  EXPECT_EQ(*PeerUid(server_.get()), ::getuid());
}

}  // namespace
}  // namespace tandem
