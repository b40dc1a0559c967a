// The handshake of an edge against callers and owners that do not keep to it.
#include "lib/worker/edge_handshake.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <random>
#include <thread>

#include "lib/base/unix_socket.h"
#include "tandem/v1/descriptors.pb.h"
#include "tests/unit/lib/base/fd_hog.h"
#include "tests/unit/lib/worker/fake_device.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

Deadline Soon() { return Deadline::After(absl::Seconds(30)); }

EdgeEndSpec Spec(EdgeEnd end, std::vector<HandleKind> kinds = {HandleKind::kHostPointer}) {
  EdgeEndSpec spec;
  spec.id = "npu0>gpu0";
  spec.from = "npu0";
  spec.to = "gpu0";
  spec.end = end;
  spec.kinds = std::move(kinds);
  spec.generation = 7;
  spec.layout = MakeResidualLayout(2, 4, 32);
  return spec;
}

EdgeCall CallOf(const EdgeEndSpec& spec) {
  return {spec.id, spec.generation, spec.layout, spec.kinds};
}

TEST(EdgeCallTest, GoesThereAndBack) {
  EdgeCall call = CallOf(Spec(EdgeEnd::kConsumer));
  call.kinds = {HandleKind::kDmaBuf, HandleKind::kHostPointer, HandleKind::kInline};
  const absl::StatusOr<EdgeCall> parsed = ParseEdgeCall(EncodeEdgeCall(call));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->id, call.id);
  EXPECT_EQ(parsed->generation, 7u);
  EXPECT_EQ(parsed->layout, call.layout);
  EXPECT_EQ(parsed->kinds, call.kinds);
}

TEST(EdgeCallTest, BadValuesAreRefused) {
  const auto parse = [](const std::function<void(EdgeCall*)>& change) {
    EdgeCall call = CallOf(Spec(EdgeEnd::kConsumer));
    change(&call);
    return ParseEdgeCall(EncodeEdgeCall(call)).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(parse([](EdgeCall* c) { c->id.clear(); })));
  EXPECT_TRUE(absl::IsInvalidArgument(parse([](EdgeCall* c) { c->id.assign(201, 'x'); })));
  EXPECT_TRUE(absl::IsInvalidArgument(parse([](EdgeCall* c) { c->kinds.clear(); })));
  EXPECT_TRUE(
      absl::IsInvalidArgument(parse([](EdgeCall* c) { c->kinds.assign(4, HandleKind::kInline); })));
  v1::DescriptorHello pigeon;
  pigeon.mutable_edge()->set_id("a>b");
  pigeon.mutable_edge()->add_kinds("pigeon");
  EXPECT_TRUE(absl::IsInvalidArgument(ParseEdgeCall(pigeon.SerializeAsString()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseEdgeCall("").status()));
}

TEST(EdgeCallTest, NoiseNeverCrashes) {
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = EncodeEdgeCall(CallOf(Spec(EdgeEnd::kConsumer)));
    for (int j = 0; j < 3; ++j) bytes[random() % bytes.size()] = static_cast<char>(random());
    bytes.resize(random() % (bytes.size() + 1));
    ParseEdgeCall(bytes).IgnoreError();
  }
}

// The importing end against an owner played by the test.
class HostileOwnerTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    importer_ = UniqueFd(ends[0]);
    owner_ = UniqueFd(ends[1]);
    SharedMemory page = *SharedMemory::Create("page", 4096);
    page_ = std::move(page.fd);
    control_ =
        *EdgeControl::Create("npu0>gpu0", EdgeEnd::kProducer, Spec(EdgeEnd::kProducer).layout, 7);
  }
  UniqueFd Memfd(std::size_t bytes, bool sealed) {
    SharedMemory memory = *SharedMemory::Create("data", bytes);
    EXPECT_TRUE(!sealed || SealSize(memory.fd.get()).ok());
    return std::move(memory.fd);
  }
  // Why the importer turns the offer down; empty when it takes it.
  std::string Refusal(const std::string& kind, const std::vector<int>& fds) {
    v1::EdgeOffer offer;
    offer.set_kind(kind);
    EXPECT_TRUE(SendFdMessage(owner_.get(), offer.SerializeAsString(), fds).ok());
    v1::EdgeOffer last;
    last.set_error("nothing else");
    EXPECT_TRUE(SendFdMessage(owner_.get(), last.SerializeAsString(), {}).ok());
    const absl::StatusOr<Edge> edge =
        ImportEdge(device_, Spec(EdgeEnd::kConsumer), importer_.get(), Soon());
    const absl::StatusOr<FdMessage> reply = ReceiveFdMessage(owner_.get(), absl::Seconds(30));
    v1::EdgeAnswer answer;
    EXPECT_TRUE(reply.ok() && answer.ParseFromString(reply->bytes));
    EXPECT_EQ(answer.accepted(), edge.ok());
    return answer.error();
  }
  std::uint64_t Bytes() const { return Spec(EdgeEnd::kConsumer).layout.total_bytes(); }

  FakeDevice device_{std::make_shared<FakeBehaviour>()};
  UniqueFd importer_;
  UniqueFd owner_;
  UniqueFd page_;
  std::unique_ptr<EdgeControl> control_;
};

TEST_F(HostileOwnerTest, AGoodOfferIsTaken) {
  EXPECT_EQ(Refusal("host-pointer", {control_->fd(), Memfd(Bytes(), true).get()}), "");
}

TEST_F(HostileOwnerTest, DescriptorsOfTheWrongNumber) {
  EXPECT_THAT(Refusal("host-pointer", {}), HasSubstr("expected 2 descriptors, found 0"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {control_->fd()}), HasSubstr("found 1"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {control_->fd(), page_.get(), page_.get()}),
              HasSubstr("found 3"));
}

TEST_F(HostileOwnerTest, DescriptorsOfTheWrongKindOrSize) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  const UniqueFd write_end(pipe[1]);
  EXPECT_THAT(Refusal("host-pointer", {control_->fd(), read_end.get()}), HasSubstr("a memfd"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {read_end.get(), Memfd(Bytes(), true).get()}),
              HasSubstr("control page"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {page_.get(), Memfd(Bytes(), true).get()}),
              HasSubstr("unsealed"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {control_->fd(), Memfd(Bytes(), false).get()}),
              HasSubstr("unsealed"));
  SetUp();
  EXPECT_THAT(Refusal("host-pointer", {control_->fd(), Memfd(Bytes() - 4096, true).get()}),
              HasSubstr("expected at least"));
}

TEST_F(HostileOwnerTest, KindsThatAreNotAllowed) {
  EXPECT_THAT(Refusal("inline", {}), HasSubstr("not allowed"));
  SetUp();
  EXPECT_THAT(Refusal("dma-buf", {control_->fd(), Memfd(Bytes(), true).get()}),
              HasSubstr("not allowed"));
}

TEST_F(HostileOwnerTest, NoiseEndsTheHandshakeAndLeavesTheSocketToItsOwner) {
  ASSERT_TRUE(SendFdMessage(owner_.get(), "\xff\xff noise", {}).ok());
  const absl::StatusOr<Edge> edge =
      ImportEdge(device_, Spec(EdgeEnd::kConsumer), importer_.get(), Soon());
  EXPECT_TRUE(absl::IsInvalidArgument(edge.status())) << edge.status();
  // Whoever may shut it down must be able to do so until it has closed it.
  EXPECT_GE(::fcntl(importer_.get(), F_GETFD), 0);
}

TEST_F(HostileOwnerTest, OffersWithoutEndAreCut) {
  v1::EdgeOffer offer;
  offer.set_kind("inline");
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(SendFdMessage(owner_.get(), offer.SerializeAsString(), {}).ok());
  const absl::StatusOr<Edge> edge =
      ImportEdge(device_, Spec(EdgeEnd::kConsumer), importer_.get(), Soon());
  EXPECT_THAT(std::string(edge.status().message()), HasSubstr("more kinds than there are"));
}

class EdgeListenerTest : public testing::Test {
 protected:
  std::string Path() const { return folder_ / "fd"; }
  std::unique_ptr<EdgeListener> Listen() { return *EdgeListener::Start(Path()); }
  TemporaryFolder folder_;
};

TEST_F(EdgeListenerTest, CallersThatSayNonsenseDoNotHurtTheNext) {
  const std::unique_ptr<EdgeListener> listener = Listen();
  const UniqueFd silent = *ConnectUnix(Path(), absl::Seconds(30));
  const UniqueFd noisy = *ConnectUnix(Path(), absl::Seconds(30));
  ASSERT_TRUE(SendFdMessage(noisy.get(), "noise", {noisy.get()}).ok());
  const UniqueFd huge = *ConnectUnix(Path(), absl::Seconds(30));
  ASSERT_EQ(::send(huge.get(), "\xff\xff\xff\xff", 4, 0), 4);
  EdgeEndSpec spec = Spec(EdgeEnd::kConsumer);
  spec.owner_fd_socket = Path();
  const absl::StatusOr<UniqueFd> call = CallOwner(spec, Soon());
  ASSERT_TRUE(call.ok()) << call.status();
  const absl::StatusOr<EdgeCaller> caller = listener->WaitForCaller(spec.id, 7, Soon());
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->hello.layout, spec.layout);
}

// The connections stay open, so the spare descriptor of the socket serves one of them only.
TEST_F(EdgeListenerTest, ServesOnWhenDescriptorsAreFreeAgain) {
  const std::unique_ptr<EdgeListener> listener = Listen();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i)
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    const FdHog hog;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    Path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    for (std::size_t i = 0; i < clients.size(); ++i) {
      ASSERT_EQ(
          ::connect(clients[i].get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
          0);
      EdgeCall call = CallOf(Spec(EdgeEnd::kConsumer));
      call.generation = 10 + i;
      ASSERT_TRUE(SendFdMessage(clients[i].get(), EncodeEdgeCall(call), {}).ok());
    }
    const absl::StatusOr<EdgeCaller> first = listener->WaitForCaller("npu0>gpu0", 10, Soon());
    ASSERT_TRUE(first.ok()) << first.status();
    // Kept until the end of the block: nothing is free for the second caller.
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        listener->WaitForCaller("npu0>gpu0", 11, Deadline::After(absl::Milliseconds(100)))
            .status()));
  }
  EXPECT_TRUE(listener->WaitForCaller("npu0>gpu0", 11, Soon()).ok());
  EXPECT_TRUE(listener->WaitForCaller("npu0>gpu0", 12, Soon()).ok());
}

}  // namespace
}  // namespace tandem
