#include "lib/worker/worker_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(WorkerFlagsTest, BothSpellings) {
  const absl::StatusOr<WorkerFlags> flags =
      ParseWorkerFlags("npu", {"--name=npu7", "--device", "cpu", "--listen=unix:/run/x",
                               "--threads=3", "--fd_socket", "/run/y"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->role, "npu");
  EXPECT_EQ(flags->name, "npu7");
  EXPECT_EQ(flags->device, "cpu");
  EXPECT_EQ(flags->threads, 3);
  EXPECT_EQ(flags->fd_socket, "/run/y");
}

TEST(WorkerFlagsTest, NamesWhatIsWrong) {
  const auto error = [](std::vector<std::string> arguments) {
    return std::string(ParseWorkerFlags("npu", arguments).status().message());
  };
  EXPECT_THAT(error({"--listen=127.0.0.1:0"}), testing::HasSubstr("--device"));
  EXPECT_THAT(error({"--device=cpu"}), testing::HasSubstr("--listen"));
  EXPECT_THAT(error({"--colour=red"}), testing::HasSubstr("--colour: unknown flag"));
  EXPECT_THAT(error({"--device"}), testing::HasSubstr("--device: expected a value"));
  EXPECT_THAT(error({"--device="}), testing::HasSubstr("--device: expected a value"));
  EXPECT_THAT(error({"cpu"}), testing::HasSubstr("'cpu'"));
  EXPECT_THAT(error({"--threads=-1"}), testing::HasSubstr("--threads"));
  EXPECT_THAT(error({"--threads=many"}), testing::HasSubstr("'many'"));
}

TEST(WorkerFlagsTest, ListensOnLoopbackAlone) {
  for (const char* good : {"unix:/run/x", "127.0.0.1:0", "127.1.2.3:80", "localhost:5", "[::1]:0"})
    EXPECT_TRUE(CheckWorkerAddress(good).ok()) << good;
  for (const char* bad : {"0.0.0.0:1", "192.168.1.1:1", "unix:", "127.0.0.1", "127.0.0.1:",
                          "127.0.0.1:70000", "127.example.org:1", "[::]:1", "::1:1", ""}) {
    EXPECT_FALSE(CheckWorkerAddress(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace tandem
