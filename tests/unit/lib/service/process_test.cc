#include "lib/service/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace tandem {
namespace {

using ::testing::HasSubstr;

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-service-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(ProcessTest, TheReadyFileLivesAsLongAsItsObject) {
  const std::string path = folder_ + "/ready";
  {
    const auto ready = ReadyFile::Write(path, "here\n");
    ASSERT_TRUE(ready.ok()) << ready.status();
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    EXPECT_EQ(text.str(), "here\n");
    struct stat info;
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_TRUE(ReadyFile::Write("", "x").ok());
}

TEST_F(ProcessTest, AReadyFileThatCannotBeWrittenSaysWhy) {
  const absl::Status status = ReadyFile::Write(folder_ + "/none/ready", "x").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("--ready_file: cannot create "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("No such file"));
  // A full disk: nothing is left behind.
  const absl::Status full = ReadyFile::Write("/dev/full/ready", "x").status();
  EXPECT_FALSE(full.ok());
}

// systemd's Type=notify.
TEST_F(ProcessTest, AServiceManagerIsTold) {
  const std::string path = folder_ + "/notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(manager.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_TRUE(ReadyFile::Write("", "x").ok());
  EXPECT_TRUE(ReadyFile::Write(folder_ + "/ready", "x").ok());
  char text[64] = {};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(::recv(manager.get(), text, sizeof(text) - 1, MSG_DONTWAIT), 7);
    EXPECT_STREQ(text, "READY=1");
  }
  EXPECT_LT(::recv(manager.get(), text, sizeof(text), MSG_DONTWAIT), 0);
  ::setenv("NOTIFY_SOCKET", (folder_ + "/none").c_str(), 1);
  EXPECT_THAT(std::string(ReadyFile::Write("", "x").status().message()),
              HasSubstr("NOTIFY_SOCKET"));
  ::setenv("NOTIFY_SOCKET", std::string(200, 'x').c_str(), 1);
  EXPECT_FALSE(ReadyFile::Write("", "x").ok());
  ::unsetenv("NOTIFY_SOCKET");
}

TEST_F(ProcessTest, SignalsWaitForTheOneWhoAsks) {
  const auto signals = StopSignals::Catch();
  ASSERT_TRUE(signals.ok());
  EXPECT_FALSE(signals->pending());
  ::kill(::getpid(), SIGTERM);
  EXPECT_EQ(signals->Wait(), SIGTERM);
  EXPECT_TRUE(signals->pending()) << "it stays pending: everybody may ask";
  EXPECT_EQ(signals->Wait(), SIGTERM);
}

int RunWith(std::vector<std::string> arguments, const std::function<int()>& run) {
  arguments.insert(arguments.begin(), "program");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  std::int32_t count = 0;
  FlagList flags;
  flags.Number("count", &count, 0, 5, "how many");
  return RunProgram({"tandem-x", "does x"}, static_cast<int>(argv.size()), argv.data(), flags, run);
}

TEST_F(ProcessTest, AProgramRunsOnlyWithAGoodCommandLine) {
  int runs = 0;
  const auto run = [&] {
    ++runs;
    return 7;
  };
  EXPECT_EQ(RunWith({"--count=3"}, run), 7);
  EXPECT_EQ(runs, 1);
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunWith({"--count=9"}, run), kExitBadStart);
  EXPECT_EQ(RunWith({"word"}, run), kExitBadStart);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "tandem-x: error: --count: expected a whole number from 0 to 5, found '9'\n"
            "tandem-x: error: unexpected argument 'word'\n");
  testing::internal::CaptureStdout();
  EXPECT_EQ(RunWith({"--help"}, run), 0);
  EXPECT_EQ(RunWith({"--version"}, run), 0);
  const std::string shown = testing::internal::GetCapturedStdout();
  EXPECT_THAT(shown, HasSubstr("tandem-x: does x"));
  EXPECT_THAT(shown, HasSubstr("--count=N"));
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace tandem
