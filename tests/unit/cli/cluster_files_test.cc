#include "cli/cluster_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

namespace tandem {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

class ClusterFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-files-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ::setenv("XDG_RUNTIME_DIR", folder_.c_str(), 1);
    ::setenv("XDG_STATE_HOME", folder_.c_str(), 1);
    paths_ = *PathsOf("blue");
  }
  void TearDown() override {
    EndHolder();
    std::filesystem::remove_all(folder_);
  }

  // Another process takes the lock and holds it, as a supervisor does. Returns its process id.
  pid_t StartHolder() {
    int ready[2];
    int end[2];
    EXPECT_EQ(::pipe(ready), 0);
    EXPECT_EQ(::pipe(end), 0);
    holder_ = ::fork();
    if (holder_ == 0) {
      ::close(end[1]);
      const auto lock = TakeLock(paths_);
      const char answer = lock.ok() ? 'y' : 'n';
      char byte = 0;
      if (::write(ready[1], &answer, 1) == 1) (void)!::read(end[0], &byte, 1);
      ::_exit(0);
    }
    ::close(ready[1]);
    ::close(end[0]);
    holder_end_ = UniqueFd(end[1]);
    char answer = 0;
    EXPECT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    ::close(ready[0]);
    return holder_;
  }
  void EndHolder() {
    holder_end_.Reset();
    if (holder_ > 0) ::waitpid(holder_, nullptr, 0);
    holder_ = -1;
  }
  std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

  std::string folder_;
  ClusterPaths paths_;
  pid_t holder_ = -1;
  UniqueFd holder_end_;
};

TEST_F(ClusterFilesTest, FoldersFollowTheClusterName) {
  EXPECT_EQ(paths_.runtime, folder_ + "/tandem/blue");
  EXPECT_EQ(paths_.Log("gpu0"), folder_ + "/tandem/blue/logs/gpu0.log");
  ASSERT_TRUE(CreateFolders(paths_).ok());
  for (const std::string& path : {folder_ + "/tandem", paths_.runtime, paths_.logs}) {
    struct stat info;
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
  }
}

TEST_F(ClusterFilesTest, WithoutXdgFoldersItIsTmp) {
  ::unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(PathsOf("blue")->runtime, "/tmp/tandem-" + std::to_string(::getuid()) + "/blue");
}

TEST_F(ClusterFilesTest, RefusesNamesThatAreNoFolderNames) {
  for (const char* name : {"", "../up", "Blue", "a b", "x/y"}) {
    EXPECT_THAT(MessageOf(PathsOf(name).status()), HasSubstr("--cluster: expected")) << name;
  }
}

TEST_F(ClusterFilesTest, RefusesFoldersTooLongForSockets) {
  ::setenv("XDG_RUNTIME_DIR", (folder_ + "/" + std::string(90, 'x')).c_str(), 1);
  EXPECT_THAT(MessageOf(PathsOf("blue").status()),
              HasSubstr("set XDG_RUNTIME_DIR to a shorter path"));
}

TEST_F(ClusterFilesTest, RoundTripWhileTheLockIsHeld) {
  ASSERT_TRUE(CreateFolders(paths_).ok());
  const pid_t holder = StartHolder();
  ClusterState state;
  state.supervisor_pid = 12;
  state.http = "127.0.0.1:1";
  state.model = "odd \xff name";
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
  EXPECT_EQ(*LockHolder(paths_), holder);
  EndHolder();
  EXPECT_EQ(LockHolder(paths_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kNotFound)
      << "a state file without a supervisor is no cluster";
}

// The state file may name a process that is long gone, its number another's by now: `down` asks the
// kernel who holds the lock.
TEST_F(ClusterFilesTest, TheHolderIsWhoHoldsTheLockAndNotWhoTheStateNames) {
  ASSERT_TRUE(CreateFolders(paths_).ok());
  const pid_t holder = StartHolder();
  ClusterState state;
  state.supervisor_pid = ::getpid();
  ASSERT_TRUE(WriteState(paths_, state).ok());
  EXPECT_EQ(*LockHolder(paths_), holder);
}

TEST_F(ClusterFilesTest, ReadingTheStateNeverTakesTheLock) {
  ASSERT_TRUE(CreateFolders(paths_).ok());
  StartHolder();
  EndHolder();
  ASSERT_TRUE(WriteState(paths_, ClusterState()).ok());
  // A reader in another process that never stops asking.
  const pid_t reader = ::fork();
  if (reader == 0) {
    while (true) (void)ReadState(paths_).ok();
  }
  for (int i = 0; i < 300; ++i) {
    const auto lock = TakeLock(paths_);
    EXPECT_TRUE(lock.ok()) << lock.status();
  }
  ::kill(reader, SIGKILL);
  ::waitpid(reader, nullptr, 0);
}

TEST_F(ClusterFilesTest, ABrokenStateFileIsNamed) {
  ASSERT_TRUE(CreateFolders(paths_).ok());
  StartHolder();
  std::ofstream(paths_.StateFile()) << "{\"supervisor_pid\": \"x\"}";
  ::chmod(paths_.StateFile().c_str(), 0600);
  EXPECT_THAT(MessageOf(ReadState(paths_).status()), HasSubstr(paths_.StateFile()));
}

// Another user has made the folder first, with a state file that names a file to read the key from
// and a process to stop, and holds the lock.
TEST_F(ClusterFilesTest, AFolderOfAnotherUserIsNotBelieved) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can make files of another user";
  ASSERT_TRUE(CreateFolders(paths_).ok());
  StartHolder();
  ASSERT_TRUE(WriteState(paths_, ClusterState()).ok());
  ASSERT_TRUE(ReadState(paths_).ok());
  const std::string parent = folder_ + "/tandem";
  for (const std::string& path : {parent, paths_.runtime, paths_.runtime + "/lock"}) {
    ASSERT_EQ(::chown(path.c_str(), kNobody, kNobody), 0);
    EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kPermissionDenied) << path;
    EXPECT_EQ(LockHolder(paths_).status().code(), absl::StatusCode::kPermissionDenied) << path;
    EXPECT_EQ(TakeLock(paths_).status().code(), absl::StatusCode::kPermissionDenied) << path;
    EXPECT_THAT(MessageOf(ReadState(paths_).status()), HasSubstr(path));
    EXPECT_THAT(MessageOf(ReadState(paths_).status()), HasSubstr("found one of uid 65534"));
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
  }
  ASSERT_EQ(::chown(paths_.StateFile().c_str(), kNobody, kNobody), 0);
  EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kPermissionDenied);
  ASSERT_EQ(::chown(parent.c_str(), kNobody, kNobody), 0);
  EXPECT_EQ(CreateFolders(paths_).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(ClusterFilesTest, AFolderThatOthersCanWriteToIsNotBelieved) {
  ASSERT_TRUE(CreateFolders(paths_).ok());
  StartHolder();
  ASSERT_TRUE(WriteState(paths_, ClusterState()).ok());
  ASSERT_EQ(::chmod(paths_.runtime.c_str(), 0777), 0);
  EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(MessageOf(ReadState(paths_).status()), HasSubstr("mode 0777"));
}

TEST_F(ClusterFilesTest, ALinkIsNoFolder) {
  std::filesystem::create_directories(folder_ + "/elsewhere/blue");
  std::filesystem::create_symlink(folder_ + "/elsewhere", folder_ + "/tandem");
  EXPECT_EQ(ReadState(paths_).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CreateFolders(paths_).code(), absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace tandem
