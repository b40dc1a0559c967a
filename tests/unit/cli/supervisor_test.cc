#include "cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class Lines final : public Reporter {
 public:
  void Line(const std::string& text) override { lines.push_back(text); }
  void Progress(const v1::LoadProgress&) override {}
  void Status(const v1::ClusterStatus&) override {}
  std::vector<std::string> lines;
};

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-super-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ::setenv("XDG_RUNTIME_DIR", folder_.c_str(), 1);
    ::setenv("XDG_STATE_HOME", folder_.c_str(), 1);
    paths_ = *PathsOf("test");
    options_.loader.model = "/proc/self/exe";
    options_.devices.npu = "cpu";
    options_.devices.gpu = "none";
    ASSERT_TRUE(FinishOptions(&options_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  ClusterPaths paths_;
  UpOptions options_;
  Lines reporter_;
  std::map<std::string, int> starts_;
};

// The system has no process left for a restart: that must not end what runs.
TEST_F(SupervisorTest, ARestartThatTheSystemRefusesIsTriedAgain) {
  const auto spawn = [&](const std::vector<std::string>& command,
                         const std::string& log) -> absl::StatusOr<ChildProcess> {
    const std::string program = command.front().substr(command.front().rfind('/') + 1);
    const int start = ++starts_[program];
    if (program != "tandem-npu-worker") return Spawn({"/bin/sleep", "1000"}, log);
    if (start == 1) return Spawn({"/bin/sh", "-c", "kill -KILL $$"}, log);
    if (start < 4) return absl::ErrnoToStatus(EAGAIN, "fork");
    // To this thread, which is the one that waits for it: those that other tests have left behind
    // would die of it.
    ::raise(SIGTERM);
    return Spawn({"/bin/sleep", "1000"}, log);
  };
  Supervisor supervisor(options_, paths_, &reporter_, spawn);
  const absl::Status status = supervisor.Run(nullptr);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(starts_["tandem-npu-worker"], 4);
  EXPECT_EQ(starts_["tandem-loader"], 1) << "the others were left alone";
  EXPECT_THAT(reporter_.lines,
              Contains(HasSubstr("npu0 cannot be started: fork: Resource temporarily unavailable; "
                                 "starting it again in 0.4 s")));
  EXPECT_THAT(reporter_.lines, Contains(HasSubstr("starting it again in 0.8 s")));
}

TEST_F(SupervisorTest, AFirstStartThatTheSystemRefusesIsAnError) {
  const auto spawn = [&](const std::vector<std::string>&,
                         const std::string&) -> absl::StatusOr<ChildProcess> {
    return absl::ErrnoToStatus(EAGAIN, "fork");
  };
  Supervisor supervisor(options_, paths_, &reporter_, spawn);
  EXPECT_THAT(std::string(supervisor.Run(nullptr).message()),
              HasSubstr("Resource temporarily unavailable"));
}

// One key file for the gateway and for those who watch it: comments and \r\n are no part of a key.
TEST_F(SupervisorTest, ABadKeyFileEndsTheStart) {
  options_.gateway.api_key_file = folder_ + "/none";
  Supervisor supervisor(options_, paths_, &reporter_);
  EXPECT_THAT(std::string(supervisor.Run(nullptr).message()), HasSubstr("cannot be opened"));
}

}  // namespace
}  // namespace tandem
