#include "cli/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::string LogFile() {
  std::string pattern = ::testing::TempDir() + "tandem-process-XXXXXX";
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  return pattern + "/child.log";
}

int WaitFor(const ChildProcess& child) {
  pollfd entry{child.pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 30'000), 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child.pid, &status, 0), child.pid);
  return status;
}

TEST(ProcessTest, OutputGoesToTheLogAndTheEndIsSeen) {
  const std::string log = LogFile();
  const auto child = Spawn(
      {"/bin/sh", "-c", "echo hello; echo 'x: error: no such device' >&2; echo bye; exit 3"}, log);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(DescribeExit(WaitFor(*child)), "exit code 3");
  EXPECT_EQ(LastErrorLine(log), "x: error: no such device");
}

TEST(ProcessTest, AKilledChildIsDescribed) {
  const auto child = Spawn({"/bin/sh", "-c", "read line"}, LogFile());
  ASSERT_TRUE(child.ok());
  WaitFor(*child);  // standard input is empty: it ends at once
  const auto sleeper = Spawn({"/bin/sh", "-c", "kill -KILL $$"}, LogFile());
  ASSERT_TRUE(sleeper.ok());
  EXPECT_THAT(DescribeExit(WaitFor(*sleeper)), HasSubstr("signal 9"));
}

TEST(ProcessTest, AProgramThatIsNotThereIsNotFound) {
  const auto child = Spawn({"/no/such/program"}, LogFile());
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(child.status().message()), HasSubstr("/no/such/program"));
}

TEST(ProcessTest, RotationKeepsTheLastLog) {
  const std::string log = LogFile();
  std::ofstream(log) << "old\n";
  RotateLog(log);
  std::ifstream moved(log + ".1");
  std::string line;
  std::getline(moved, line);
  EXPECT_EQ(line, "old");
  EXPECT_EQ(LastErrorLine(log), "");
}

}  // namespace
}  // namespace tandem
