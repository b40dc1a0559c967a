#include "cli/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::StartsWith;

TEST(LaunchTest, EveryProcessGetsItsAddresses) {
  ClusterOptions options;
  options.model = "/m";
  options.plan = "split";
  options.threads = 2;
  options.workers = {{"npu0", "npu", "cpu"}, {"gpu0", "gpu", "auto"}};
  ClusterPaths paths;
  paths.runtime = "/r";
  const auto specs = ProcessesOf(options, paths, "/bin");
  ASSERT_EQ(specs.size(), 4u);
  EXPECT_EQ(specs[0].command[0], "/bin/tandem-loader");
  EXPECT_EQ(specs[1].command[0], "/bin/tandem-npu-worker");
  EXPECT_THAT(specs[1].command, Contains("--threads=2"));
  EXPECT_THAT(specs[1].command, Contains("--listen=unix:/r/npu0.sock"));
  EXPECT_THAT(specs[2].command, Contains("--weights=zero-copy"));
  EXPECT_THAT(specs[2].command, Not(Contains(StartsWith("--threads"))));
  EXPECT_THAT(specs[3].command,
              Contains("--worker=npu0=npu=unix:/r/npu0.sock,gpu0=gpu=unix:/r/gpu0.sock"));
  // The supervisor puts the bound addresses into these two places when it starts the gateway again.
  EXPECT_THAT(specs[3].command[1], StartsWith("--http="));
  EXPECT_THAT(specs[3].command[2], StartsWith("--grpc="));
  EXPECT_THAT(specs[3].command, Not(Contains(StartsWith("--context"))));
}

}  // namespace
}  // namespace tandem
