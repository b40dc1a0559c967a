#include "lib/base/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lib/base/shared_memory.h"
#include "tests/unit/lib/base/fd_hog.h"

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
    listen_ = *UnixListener::Listen(path_);
    client_ = *ConnectUnix(path_, kLong);
    server_ = *listen_->Accept();
  }
  std::string folder_;
  std::string path_;
  std::unique_ptr<UnixListener> listen_;
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
  server_ = *listen_->Accept();
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

TEST_F(UnixSocketTest, AcceptIsStopped) {
  const std::unique_ptr<UnixListener> listen = *UnixListener::Listen(path_);
  std::thread stopper([&] { listen->Stop(); });
  EXPECT_TRUE(absl::IsCancelled(listen->Accept().status()));
  stopper.join();
  EXPECT_TRUE(absl::IsCancelled(listen->Accept().status()));
}

// A socket to connect with later, when there is no descriptor left to make one.
UniqueFd NewClient() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

bool ConnectTo(const UniqueFd& client, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

TEST_F(UnixSocketTest, WithoutAFreeDescriptorOneCallerAtATimeIsServed) {
  const std::unique_ptr<UnixListener> listen = *UnixListener::Listen(path_);
  const UniqueFd first = NewClient();
  const UniqueFd second = NewClient();
  const FdHog hog;
  ASSERT_TRUE(ConnectTo(first, path_) && ConnectTo(second, path_));
  for (int caller = 0; caller < 2; ++caller) {
    const absl::StatusOr<UniqueFd> served = listen->Accept();
    ASSERT_TRUE(served.ok()) << served.status();
  }
}

TEST_F(UnixSocketTest, CallersWaitUntilADescriptorIsFree) {
  const std::unique_ptr<UnixListener> listen = *UnixListener::Listen(path_);
  const UniqueFd first = NewClient();
  const UniqueFd second = NewClient();
  auto hog = std::make_unique<FdHog>();
  ASSERT_TRUE(ConnectTo(first, path_) && ConnectTo(second, path_));
  const absl::StatusOr<UniqueFd> kept = listen->Accept();
  ASSERT_TRUE(kept.ok()) << kept.status();
  absl::StatusOr<UniqueFd> waiting;
  std::thread accepting([&] { waiting = listen->Accept(); });
  hog.reset();
  accepting.join();
  EXPECT_TRUE(waiting.ok()) << waiting.status();
}

TEST_F(UnixSocketTest, StopEndsAWaitForDescriptors) {
  const std::unique_ptr<UnixListener> listen = *UnixListener::Listen(path_);
  const UniqueFd first = NewClient();
  const UniqueFd second = NewClient();
  const FdHog hog;
  ASSERT_TRUE(ConnectTo(first, path_) && ConnectTo(second, path_));
  const absl::StatusOr<UniqueFd> kept = listen->Accept();
  ASSERT_TRUE(kept.ok()) << kept.status();
  std::thread stopper([&] { listen->Stop(); });
  EXPECT_TRUE(absl::IsCancelled(listen->Accept().status()));
  stopper.join();
}

TEST_F(UnixSocketTest, DescriptorsThatFindNoRoomAreAnError) {
  Connect();
  const FdHog hog;
  ASSERT_TRUE(SendFdMessage(client_.get(), "x", {client_.get(), server_.get()}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ReceiveFdMessage(server_.get(), kLong).status()));
}

TEST_F(UnixSocketTest, APeerThatDoesNotReadTimesOut) {
  Connect();
  absl::Status sent;
  for (int i = 0; i < 100 && sent.ok(); ++i) {
    sent = SendFdMessage(client_.get(), std::string(kMaxFdMessageBytes, 'x'), {},
                         absl::Milliseconds(20));
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(sent)) << sent;
}

// Only root can become another user.
TEST_F(UnixSocketTest, AnotherUsersConnectionIsClosed) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root";
  const std::unique_ptr<UnixListener> listen = *UnixListener::Listen(path_);
  // As if the modes had not kept them out.
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const UniqueFd client = NewClient();
    if (::setgid(65534) != 0 || ::setuid(65534) != 0 || !ConnectTo(client, path_)) ::_exit(2);
    char byte = 0;
    // The end of the stream, or a reset; never an answer.
    ::_exit(::recv(client.get(), &byte, 1, 0) > 0 ? 1 : 0);
  }
  std::thread stopper([&] {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    listen->Stop();
  });
  EXPECT_TRUE(absl::IsCancelled(listen->Accept().status()));
  stopper.join();
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
