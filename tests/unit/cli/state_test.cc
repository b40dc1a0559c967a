#include "cli/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace tandem {
namespace {

using ::testing::HasSubstr;

class StateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-state-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    paths_.name = "test";
    paths_.runtime = pattern;
    paths_.logs = pattern;
  }
  ClusterPaths paths_;
};

TEST_F(StateTest, RoundTripWhileTheLockIsHeld) {
  const auto lock = TakeLock(paths_);
  ASSERT_TRUE(lock.ok());
  ClusterState state;
  state.supervisor_pid = 12;
  state.http = "127.0.0.1:1";
  state.plan = "split";
  state.processes = {{"gpu0", 13, 2, "gpu0.log"}};
  ASSERT_TRUE(WriteState(paths_, state).ok());
  const auto read = ReadState(paths_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->supervisor_pid, 12);
  EXPECT_EQ(read->http, "127.0.0.1:1");
  ASSERT_EQ(read->processes.size(), 1u);
  EXPECT_EQ(read->processes[0].restarts, 2u);
  EXPECT_EQ(TakeLock(paths_).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(StateTest, AStateFileWithoutASupervisorIsNoCluster) {
  ASSERT_TRUE(WriteState(paths_, ClusterState()).ok());
  EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StateTest, ABrokenStateFileIsNamed) {
  const auto lock = TakeLock(paths_);
  ASSERT_TRUE(lock.ok());
  std::ofstream(paths_.StateFile()) << "{\"supervisor_pid\": \"x\"}";
  EXPECT_THAT(std::string(ReadState(paths_).status().message()), HasSubstr(paths_.StateFile()));
}

}  // namespace
}  // namespace tandem
