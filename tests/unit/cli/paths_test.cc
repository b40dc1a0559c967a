#include "cli/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

namespace tandem {
namespace {

using ::testing::HasSubstr;

class PathsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-paths-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ::setenv("XDG_RUNTIME_DIR", folder_.c_str(), 1);
    ::setenv("XDG_STATE_HOME", folder_.c_str(), 1);
  }
  std::string folder_;
};

TEST_F(PathsTest, FoldersFollowTheClusterName) {
  const auto paths = PathsOf("blue");
  ASSERT_TRUE(paths.ok());
  EXPECT_EQ(paths->runtime, folder_ + "/tandem/blue");
  EXPECT_EQ(paths->Log("gpu0"), folder_ + "/tandem/blue/logs/gpu0.log");
  ASSERT_TRUE(CreateFolders(*paths).ok());
  struct stat info;
  ASSERT_EQ(::stat(paths->runtime.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(PathsTest, RefusesNamesThatAreNoFolderNames) {
  for (const char* name : {"", "../up", "Blue", "a b", "x/y"}) {
    EXPECT_THAT(std::string(PathsOf(name).status().message()), HasSubstr("--cluster: expected"))
        << name;
  }
}

TEST_F(PathsTest, RefusesFoldersTooLongForSockets) {
  ::setenv("XDG_RUNTIME_DIR", (folder_ + "/" + std::string(90, 'x')).c_str(), 1);
  EXPECT_THAT(std::string(PathsOf("blue").status().message()),
              HasSubstr("set XDG_RUNTIME_DIR to a shorter path"));
}

}  // namespace
}  // namespace tandem
