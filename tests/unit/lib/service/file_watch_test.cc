#include "lib/service/file_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>

namespace tandem {
namespace {

class FileWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-watch-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/file";
    std::ofstream(path_) << "one";
    absl::StatusOr<FileWatch> watch = FileWatch::Start(
        {folder_ + "/other", path_}, [this] { Changed(); }, absl::Milliseconds(5));
    ASSERT_TRUE(watch.ok());
    watch_.emplace(*std::move(watch));
  }
  void TearDown() override {
    watch_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Changed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  bool WaitFor(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return count_ >= count; });
  }
  std::string folder_;
  std::string path_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
  std::optional<FileWatch> watch_;
};

TEST_F(FileWatchTest, SeesOtherBytesOtherFilesAndNone) {
  std::ofstream(path_) << "other";
  ASSERT_TRUE(WaitFor(1));
  std::ofstream(folder_ + "/new") << "other";
  std::filesystem::rename(folder_ + "/new", path_);
  ASSERT_TRUE(WaitFor(2));
  std::filesystem::remove(path_);
  ASSERT_TRUE(WaitFor(3));
  std::ofstream(folder_ + "/other") << "it comes later";
  ASSERT_TRUE(WaitFor(4));
}

// As Kubernetes exchanges secrets.
TEST_F(FileWatchTest, SeesThatALinkPointsElsewhere) {
  std::filesystem::remove(path_);
  ASSERT_TRUE(WaitFor(1));
  std::ofstream(folder_ + "/a") << "x";
  std::ofstream(folder_ + "/b") << "x";
  std::filesystem::create_symlink("a", path_);
  ASSERT_TRUE(WaitFor(2));
  std::filesystem::create_symlink("b", folder_ + "/link");
  std::filesystem::rename(folder_ + "/link", path_);
  ASSERT_TRUE(WaitFor(3));
}

}  // namespace
}  // namespace tandem
