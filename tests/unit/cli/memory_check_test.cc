#include "cli/memory_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using Verdict = CheckRow::Verdict;

// A machine made of files.
class MemoryCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "tandem-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    root_ = folder;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void PutAmdGpu() {
    Put("/sys/class/drm/card1/device/vendor", "0x1002\n");
    Put("/sys/class/drm/card1/device/mem_info_gtt_total", "16000000000\n");
    Put("/sys/class/drm/card1-HDMI-A-1/device/vendor", "0x1002\n");
    Put("/sys/class/drm/card0/device/vendor", "0x10de\n");
  }
  std::string root_;
};

TEST_F(MemoryCheckTest, WithoutTheNode) {
  std::vector<CheckRow> rows = CheckSharedMemory(root_);
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_EQ(rows[0].verdict, Verdict::kNote);
  EXPECT_THAT(rows[0].text, HasSubstr("sudo modprobe udmabuf"));
  PutAmdGpu();
  rows = CheckSharedMemory(root_);
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0].verdict, Verdict::kMissing) << "an AMD GPU needs it";
  EXPECT_THAT(rows[1].text, HasSubstr("card1: GTT 16.0 GB"));
  EXPECT_THAT(rows[1].text, HasSubstr("pages_limit"));
}

TEST_F(MemoryCheckTest, TheNodeAndItsLimit) {
  Put("/dev/udmabuf", "");
  std::vector<CheckRow> rows = CheckSharedMemory(root_);
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0].verdict, Verdict::kGood);
  EXPECT_THAT(rows[1].text, HasSubstr("by default 64"));
  Put("/sys/module/udmabuf/parameters/size_limit_mb", "1024\n");
  rows = CheckSharedMemory(root_);
  EXPECT_EQ(rows[1].verdict, Verdict::kGood);
  EXPECT_THAT(rows[1].text, HasSubstr("size_limit_mb 1024"));
  Put("/sys/module/udmabuf/parameters/size_limit_mb", "8\n");
  rows = CheckSharedMemory(root_);
  EXPECT_EQ(rows[1].verdict, Verdict::kNote);
  EXPECT_THAT(rows[1].text, HasSubstr("echo 64 | sudo tee /sys/module/udmabuf"));
}

TEST_F(MemoryCheckTest, ANodeOfAnotherGroup) {
  Put("/dev/udmabuf", "");
  ASSERT_EQ(::chmod((root_ + "/dev/udmabuf").c_str(), 0), 0);
  if (::getuid() == 0) GTEST_SKIP() << "root may open everything";
  const std::vector<CheckRow> rows = CheckSharedMemory(root_);
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_THAT(rows[0].text, HasSubstr("cannot be opened"));
  EXPECT_THAT(rows[0].text, HasSubstr("usermod -aG"));
}

}  // namespace
}  // namespace tandem
