// Edges between two real processes: this program starts itself again with --peer.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/base/unix_socket.h"
#include "lib/worker/edge_connect.h"
#include "tests/unit/lib/worker/fake_device.h"

extern char** environ;

namespace tandem {
namespace {

constexpr std::int32_t kRows = 3;
constexpr std::int32_t kHidden = 96;
constexpr std::uint64_t kGeneration = 4;
constexpr int kHops = 1000;

EdgeEndSpec SpecOf(EdgeEnd end, bool owner, const std::string& socket,
                   std::vector<HandleKind> kinds) {
  EdgeEndSpec spec;
  spec.from.assign(1, 'a');
  spec.to.assign(1, 'b');
  spec.id = absl::StrCat(spec.from, ">", spec.to);
  spec.end = end;
  spec.owner = owner;
  spec.owner_fd_socket = socket;
  spec.kinds = std::move(kinds);
  spec.generation = kGeneration;
  spec.layout = MakeResidualLayout(3, kRows, kHidden);
  return spec;
}

float Value(std::uint64_t sequence, std::int32_t i) {
  return static_cast<float>(sequence) * 1000.0f + static_cast<float>(i);
}

Deadline Soon() { return Deadline::After(absl::Seconds(30)); }

float* Slot(Edge& edge, std::uint64_t sequence) {
  return static_cast<FakeResidual*>(edge.residual.get())->slot(edge.control->SlotOf(sequence));
}

absl::Status Produce(Edge& edge, std::uint64_t sequence) {
  TANDEM_RETURN_IF_ERROR(edge.control->WaitForSpace(sequence, Soon()));
  float* slot = Slot(edge, sequence);
  for (std::int32_t i = 0; i < kRows * kHidden; ++i) slot[i] = Value(sequence, i);
  edge.control->Publish(sequence, sequence + 100, kRows);
  return absl::OkStatus();
}

// INTERNAL when a value is not what the producer wrote.
absl::Status Consume(Edge& edge, std::uint64_t sequence) {
  TANDEM_RETURN_IF_ERROR(edge.control->WaitForData(sequence, sequence + 100, kRows, Soon()));
  const float* slot = Slot(edge, sequence);
  for (std::int32_t i = 0; i < kRows * kHidden; ++i) {
    if (slot[i] != Value(sequence, i))
      return absl::InternalError(
          absl::StrCat("hand-over ", sequence, ": found ", slot[i], " at ", i));
  }
  edge.control->Release(sequence);
  return absl::OkStatus();
}

// The other process. Roles: "produce" kHops hand-overs; "die" while the test waits for data;
// "consume". It imports; the test owns.
int RunPeer(const std::string& role, const std::string& socket) {
  FakeDevice device(std::make_shared<FakeBehaviour>());
  const EdgeEndSpec spec = SpecOf(role == "consume" ? EdgeEnd::kConsumer : EdgeEnd::kProducer,
                                  false, socket, {HandleKind::kDmaBuf, HandleKind::kHostPointer});
  absl::StatusOr<UniqueFd> call = CallOwner(spec, Soon());
  if (!call.ok()) return 10;
  absl::StatusOr<Edge> edge = ImportEdge(device, spec, call->get(), Soon());
  if (!edge.ok()) return 11;
  // Its identity goes to the test as the hand-over's last words: a file beside the socket.
  std::ofstream(absl::StrCat(socket, ".inode")) << edge->identity.inode << std::flush;
  for (std::uint64_t sequence = 0; sequence < kHops; ++sequence) {
    if (role == "die" && sequence == 1) ::raise(SIGKILL);
    const absl::Status done =
        role == "consume" ? Consume(*edge, sequence) : Produce(*edge, sequence);
    if (!done.ok()) return 12;
  }
  // The edge stays open until the test has read everything and closes its end.
  EXPECT_TRUE(absl::IsUnavailable(role == "consume"
                                      ? edge->control->WaitForData(kHops, 0, 1, Soon())
                                      : edge->control->WaitForSpace(kHops + 3, Soon())));
  return 0;
}

class EdgeProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-edge-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    absl::StatusOr<std::unique_ptr<EdgeListener>> listener =
        EdgeListener::Start(absl::StrCat(folder_, "/fd"));
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }
  void TearDown() override {
    watcher_.reset();
    edges_.clear();
    if (peer_ > 0) {
      ::kill(peer_, SIGKILL);
      ::waitpid(peer_, nullptr, 0);
    }
    listener_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Starts the peer and connects to it as the owner of the other end.
  void Start(const std::string& role) {
    const std::string socket = absl::StrCat(folder_, "/fd");
    std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    std::string flag = "--peer";
    std::string role_copy = role;
    std::string socket_copy = socket;
    char* arguments[] = {self.data(), flag.data(), role_copy.data(), socket_copy.data(), nullptr};
    ASSERT_EQ(::posix_spawn(&peer_, self.c_str(), nullptr, nullptr, arguments, environ), 0);
    EdgeConnector connector(device_, listener_.get(), inbox_, kGeneration);
    const EdgeEnd end = role == "consume" ? EdgeEnd::kProducer : EdgeEnd::kConsumer;
    auto edges = connector.Connect(
        {SpecOf(end, true, socket, {HandleKind::kDmaBuf, HandleKind::kHostPointer})}, Soon());
    ASSERT_TRUE(edges.ok()) << edges.status();
    edges_ = *std::move(edges);
    auto watcher = EdgeWatcher::Start(edges_);
    ASSERT_TRUE(watcher.ok());
    watcher_ = *std::move(watcher);
  }
  Edge& edge() { return *edges_[0]; }
  int WaitForPeer() {
    int status = 0;
    ::waitpid(peer_, &status, 0);
    peer_ = -1;
    return status;
  }
  std::uint64_t PeersInode() {
    std::uint64_t inode = 0;
    std::ifstream(absl::StrCat(folder_, "/fd.inode")) >> inode;
    return inode;
  }

  FakeDevice device_{std::make_shared<FakeBehaviour>()};
  InlineInbox inbox_;
  std::string folder_;
  std::unique_ptr<EdgeListener> listener_;
  std::vector<std::unique_ptr<Edge>> edges_;
  std::unique_ptr<EdgeWatcher> watcher_;
  pid_t peer_ = -1;
};

TEST_F(EdgeProcessTest, TheConsumerReadsTheProducersPages) {
  ASSERT_NO_FATAL_FAILURE(Start("produce"));
  EXPECT_EQ(edge().kind, HandleKind::kHostPointer);  // the fake device exports no dma-buf
  for (std::uint64_t sequence = 0; sequence < kHops; ++sequence) {
    const absl::Status done = Consume(edge(), sequence);
    ASSERT_TRUE(done.ok()) << done;
  }
  EXPECT_EQ(PeersInode(), edge().identity.inode);
  EXPECT_EQ(edge().control->handovers(), static_cast<std::uint64_t>(kHops));
  edge().control->Close();
  EXPECT_EQ(WaitForPeer(), 0);
}

TEST_F(EdgeProcessTest, TheProducerHereTheConsumerThere) {
  ASSERT_NO_FATAL_FAILURE(Start("consume"));
  for (std::uint64_t sequence = 0; sequence < kHops; ++sequence) {
    const absl::Status done = Produce(edge(), sequence);
    ASSERT_TRUE(done.ok()) << done;
  }
  // All are read: the last slot is free again.
  EXPECT_TRUE(edge().control->WaitForSpace(kHops + 2, Soon()).ok());
  EXPECT_EQ(PeersInode(), edge().identity.inode);
  edge().control->Close();
  EXPECT_EQ(WaitForPeer(), 0);
}

TEST_F(EdgeProcessTest, KillNineEndsTheWait) {
  ASSERT_NO_FATAL_FAILURE(Start("die"));
  EXPECT_TRUE(Consume(edge(), 0).ok());
  const absl::Status second =
      edge().control->WaitForData(1, 101, kRows, Deadline::After(absl::Hours(1)));
  EXPECT_TRUE(absl::IsUnavailable(second)) << second;
  const int status = WaitForPeer();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--peer") return tandem::RunPeer(argv[2], argv[3]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
