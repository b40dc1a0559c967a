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
  plan.stages = {{"gpu0", StagePart::kEmbed, 0, 0},
                 {"npu0", StagePart::kAttention, 0, 1},
                 {"gpu0", StagePart::kFfn, 0, 1},
                 {"gpu0", StagePart::kHead, 0, 0}};
  return plan;
}

std::vector<EdgeWorker> Workers() {
  return {{"gpu0",
           WorkerRole::kGpu,
           "unix:gpu0",
           "gpu0.fd",
           "here",
           {HandleKind::kDmaBuf, HandleKind::kHostPointer}},
          {"npu0", WorkerRole::kNpu, "unix:npu0", "npu0.fd", "here", {HandleKind::kHostPointer}}};
}

const std::vector<HandleKind> kAll = {HandleKind::kDmaBuf, HandleKind::kHostPointer,
                                      HandleKind::kInline};

TEST(EdgeSpecs, TheNpuOwnsBothDirections) {
  const auto specs = MakeEdgeSpecs(TwoWorkers(), Workers(), kAll, 2);
  ASSERT_TRUE(specs.ok()) << specs.status();
  ASSERT_THAT(*specs, SizeIs(2));
  EXPECT_EQ((*specs)[0].id(), "gpu0>npu0");
  EXPECT_EQ((*specs)[1].id(), "npu0>gpu0");
  for (const v1::EdgeSpec& spec : *specs) {
    EXPECT_EQ(spec.owner(), "npu0");
    EXPECT_EQ(spec.owner_fd_socket(), "npu0.fd");
    EXPECT_THAT(spec.kinds(), ElementsAre("host-pointer", "inline"));
    EXPECT_EQ(spec.slots(), 2);
  }
  EXPECT_EQ((*specs)[1].consumer_address(), "unix:gpu0");
}

TEST(EdgeSpecs, WithoutAnNpuTheProducerOwns) {
  std::vector<EdgeWorker> workers = Workers();
  workers[1].role = WorkerRole::kGpu;
  const auto specs = MakeEdgeSpecs(TwoWorkers(), workers, kAll, 2);
  ASSERT_TRUE(specs.ok());
  EXPECT_EQ((*specs)[0].owner(), "gpu0");
  EXPECT_EQ((*specs)[1].owner(), "npu0");
}

TEST(EdgeSpecs, BetweenHostsOnlyInline) {
  std::vector<EdgeWorker> workers = Workers();
  workers[1].host = "there";
  const auto specs = MakeEdgeSpecs(TwoWorkers(), workers, kAll, 2);
  ASSERT_TRUE(specs.ok());
  EXPECT_THAT((*specs)[0].kinds(), ElementsAre("inline"));
  const auto refused =
      MakeEdgeSpecs(TwoWorkers(), workers, {HandleKind::kDmaBuf, HandleKind::kHostPointer}, 2);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("gpu0>npu0 (between two hosts)"));
}

TEST(EdgeSpecs, NamesTheEdgeForWhichNoKindIsLeft) {
  const auto specs = MakeEdgeSpecs(TwoWorkers(), Workers(), {HandleKind::kDmaBuf}, 2);
  EXPECT_THAT(std::string(specs.status().message()), HasSubstr("npu0 can use host-pointer"));
}

}  // namespace
}  // namespace tandem
