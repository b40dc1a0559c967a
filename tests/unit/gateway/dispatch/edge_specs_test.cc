#include "gateway/dispatch/edge_specs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

Plan TwoWorkers() {
  Plan plan;
  plan.name = "split";
  plan.routes = {{RouteUse::kAll,
                  {{"gpu0", StagePart::kEmbed, 0, 0},
                   {"npu0", StagePart::kAttention, 0, 1},
                   {"gpu0", StagePart::kFfn, 0, 1},
                   {"gpu0", StagePart::kHead, 0, 0}}}};
  return plan;
}

constexpr std::uint64_t kAny = MemoryAbility::kAny;
ModelConfig Shape() {
  ModelConfig config;
  config.hidden_size = 5376;
  config.num_heads = 32;
  config.num_kv_heads = 16;
  config.head_dim = 128;
  return config;
}
const ModelConfig kShape = Shape();
const EdgeRing kRing{2, 512, kShape};

MemoryDeclaration Npu() {
  MemoryDeclaration memory;
  memory.dma_buf = {0, kAny};
  memory.owns_edges = true;
  memory.host_view = true;
  return memory;
}

MemoryDeclaration Gpu() {
  MemoryDeclaration memory;
  memory.dma_buf = {kAny, kAny};
  memory.host_pointer = {kAny, kAny};
  memory.host_view = true;
  return memory;
}

std::vector<EdgeWorker> Workers() {
  return {{"gpu0", "unix:gpu0", "gpu0.fd", "here", Gpu()},
          {"npu0", "unix:npu0", "npu0.fd", "here", Npu()}};
}

const std::vector<HandleKind> kAll = {HandleKind::kDmaBuf, HandleKind::kHostPointer,
                                      HandleKind::kInline};

TEST(EdgeSpecs, AnNpuOwnsBothDirections) {
  const auto specs = MakeEdgeSpecs(TwoWorkers(), Workers(), kAll, kRing);
  ASSERT_TRUE(specs.ok()) << specs.status();
  ASSERT_THAT(*specs, SizeIs(2));
  EXPECT_EQ((*specs)[0].id(), "gpu0>npu0");
  EXPECT_EQ((*specs)[1].id(), "npu0>gpu0");
  for (const v1::EdgeSpec& spec : *specs) {
    EXPECT_EQ(spec.owner(), "npu0");
    EXPECT_EQ(spec.owner_fd_socket(), "npu0.fd");
    EXPECT_THAT(spec.kinds(), ElementsAre("dma-buf", "inline"));
    EXPECT_EQ(spec.slots(), 2);
  }
  EXPECT_EQ((*specs)[1].consumer_address(), "unix:gpu0");
}

TEST(EdgeSpecs, BetweenEqualsTheProducerOwns) {
  std::vector<EdgeWorker> workers = Workers();
  workers[1].memory = Gpu();
  const auto specs = MakeEdgeSpecs(TwoWorkers(), workers, kAll, kRing);
  ASSERT_TRUE(specs.ok());
  EXPECT_EQ((*specs)[0].owner(), "gpu0");
  EXPECT_EQ((*specs)[1].owner(), "npu0");
}

TEST(EdgeSpecs, TheWholeRingCounts) {
  std::vector<EdgeWorker> workers = Workers();
  const std::uint64_t slot = 512 * 5376 * 4;
  workers[0].memory.dma_buf.import_bytes = 2 * slot;
  EXPECT_THAT((*MakeEdgeSpecs(TwoWorkers(), workers, kAll, kRing))[0].kinds(),
              ElementsAre("dma-buf", "inline"));
  workers[0].memory.dma_buf.import_bytes = 2 * slot - 1;
  EXPECT_THAT((*MakeEdgeSpecs(TwoWorkers(), workers, kAll, kRing))[0].kinds(),
              ElementsAre("inline"));
}

TEST(EdgeSpecs, BetweenHostsOnlyInline) {
  std::vector<EdgeWorker> workers = Workers();
  workers[1].host = "there";
  const auto specs = MakeEdgeSpecs(TwoWorkers(), workers, kAll, kRing);
  ASSERT_TRUE(specs.ok());
  EXPECT_THAT((*specs)[0].kinds(), ElementsAre("inline"));
  const auto refused =
      MakeEdgeSpecs(TwoWorkers(), workers, {HandleKind::kDmaBuf, HandleKind::kHostPointer}, kRing);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("gpu0>npu0 (between two hosts)"));
}

TEST(EdgeSpecs, ContainersShareMemoryWhereTheyShareAFolder) {
  const auto may = [](const std::string& one, const std::string& other) {
    EdgeWorker a = Workers()[0];
    EdgeWorker b = Workers()[1];
    a.host = one;
    b.host = other;
    return MayShareMemory(a, b);
  };
  EXPECT_TRUE(may("boot/4:1/9:1", "boot/4:1/9:1"));
  EXPECT_TRUE(may("boot/4:1/9:1", "boot/4:1/9:2")) << "two folders of one file system";
  EXPECT_TRUE(may("boot/4:1/9:1", "boot/4:2/9:1")) << "two containers with a common volume";
  EXPECT_FALSE(may("boot/4:1/9:1", "boot/4:2/9:2")) << "two containers without one";
  EXPECT_FALSE(may("boot/4:1/9:1", "other/4:1/9:1")) << "two machines";
  EXPECT_FALSE(may("boot/unknown/unknown", "boot/unknown/unknown"));
  EXPECT_FALSE(may("", ""));
}

TEST(EdgeSpecs, WithoutADescriptorSocketOnlyInline) {
  std::vector<EdgeWorker> workers = Workers();
  workers[0].fd_socket.clear();
  EXPECT_THAT((*MakeEdgeSpecs(TwoWorkers(), workers, kAll, kRing))[0].kinds(),
              ElementsAre("inline"));
}

TEST(EdgeSpecs, NamesTheEdgeForWhichNoKindIsLeft) {
  const auto specs = MakeEdgeSpecs(TwoWorkers(), Workers(), {HandleKind::kHostPointer}, kRing);
  EXPECT_THAT(std::string(specs.status().message()), HasSubstr("owns its edges"));
}

}  // namespace
}  // namespace tandem
