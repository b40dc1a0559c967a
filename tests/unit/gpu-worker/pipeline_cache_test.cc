#include "gpu-worker/vulkan/pipeline_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "gpu-worker/stage/vulkan_device.h"

namespace tandem::vulkan {
namespace {

using Data = std::vector<std::byte>;

PhysicalDevice Device() {
  PhysicalDevice device;
  device.vendor_id = 0x1002;
  device.device_id = 0x15bf;
  for (std::size_t i = 0; i < device.cache_uuid.size(); ++i) {
    device.cache_uuid[i] = static_cast<std::uint8_t>(17 * i);
  }
  return device;
}

// As a driver makes it, of that device.
Data DriverData(const PhysicalDevice& device, std::size_t bytes, int fill) {
  Data data(32 + bytes, static_cast<std::byte>(fill));
  const std::uint32_t header[] = {32, 1, device.vendor_id, device.device_id};
  std::memcpy(data.data(), header, sizeof(header));
  std::memcpy(data.data() + 16, device.cache_uuid.data(), device.cache_uuid.size());
  return data;
}

Data ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  Data bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void WriteFile(const std::string& path, const Data& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

class PipelineCache : public testing::Test {
 protected:
  void SetUp() override {
    std::string made = testing::TempDir() + "pipelines.XXXXXX";
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    root_ = made;
    folder_ = root_ + "/cache/tandem";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::size_t FilesThere() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_),
                                                  std::filesystem::directory_iterator()));
  }

  const PhysicalDevice device_ = Device();
  const Data data_ = DriverData(device_, 1000, 7);
  std::string root_;
  std::string folder_;
};

TEST_F(PipelineCache, IsThereAgainAndOnlyForThisUser) {
  const PipelineCacheFile file(folder_, device_);
  EXPECT_EQ(file.Load()->size(), 0u);
  ASSERT_TRUE(file.Store(data_).ok());
  EXPECT_EQ(*file.Load(), data_);
  EXPECT_EQ(FilesThere(), 1u);
  struct stat info {};
  ASSERT_EQ(::stat(file.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(PipelineCache, NothingIsKeptWithoutAFolder) {
  const PipelineCacheFile file("", device_);
  EXPECT_TRUE(file.Store(data_).ok());
  EXPECT_EQ(file.Load()->size(), 0u);
}

TEST_F(PipelineCache, EveryChangedByteAndEveryLengthIsFound) {
  const Data good = WritePipelineCache(data_);
  ASSERT_TRUE(ReadPipelineCache(good, device_).ok());
  for (std::size_t i = 0; i < good.size(); ++i) {
    Data bad = good;
    bad[i] ^= std::byte{4};
    EXPECT_TRUE(absl::IsDataLoss(ReadPipelineCache(bad, device_).status())) << i;
    EXPECT_TRUE(absl::IsDataLoss(ReadPipelineCache(std::span(good).first(i), device_).status()));
  }
  Data longer = good;
  longer.push_back({});
  EXPECT_TRUE(absl::IsDataLoss(ReadPipelineCache(longer, device_).status()));
}

TEST_F(PipelineCache, OfAnotherDriverIsRefused) {
  PhysicalDevice other = device_;
  other.cache_uuid[3] ^= 1;
  const Data file = WritePipelineCache(DriverData(other, 10, 1));
  const auto read = ReadPipelineCache(file, device_);
  ASSERT_TRUE(absl::IsDataLoss(read.status()));
  EXPECT_THAT(std::string(read.status().message()), testing::HasSubstr("another device or driver"));
  EXPECT_NE(PipelineCacheFile(folder_, other).path(), PipelineCacheFile(folder_, device_).path());
}

TEST_F(PipelineCache, WhatOthersCanWriteIsNotRead) {
  const PipelineCacheFile file(folder_, device_);
  ASSERT_TRUE(file.Store(data_).ok());
  ASSERT_EQ(::chmod(file.path().c_str(), 0620), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(file.Load().status()));
  ASSERT_EQ(::chmod(file.path().c_str(), 0600), 0);
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(file.Load().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(file.Store(data_)));
  ASSERT_EQ(::chmod(folder_.c_str(), 0700), 0);
  EXPECT_TRUE(file.Load().ok());
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(file.path().c_str(), 65534, 65534), 0);
    EXPECT_TRUE(absl::IsFailedPrecondition(file.Load().status()));
  }
}

TEST_F(PipelineCache, LinksAndPipesAreNotRead) {
  const PipelineCacheFile file(folder_, device_);
  ASSERT_TRUE(file.Store(data_).ok());
  std::filesystem::rename(file.path(), root_ + "/elsewhere");
  ASSERT_EQ(::symlink((root_ + "/elsewhere").c_str(), file.path().c_str()), 0);
  EXPECT_FALSE(file.Load().ok());
  ASSERT_TRUE(file.Store(data_).ok()) << "takes the link's place";
  EXPECT_TRUE(file.Load().ok());
  std::filesystem::remove(file.path());
  ASSERT_EQ(::mkfifo(file.path().c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(file.Load().status()));
}

TEST_F(PipelineCache, AFullDiskLeavesWhatWasThere) {
  const PipelineCacheFile file(folder_, device_);
  ASSERT_TRUE(file.Store(data_).ok());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit little{500, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
  const absl::Status status = file.Store(DriverData(device_, 5000, 9));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(*file.Load(), data_);
  EXPECT_EQ(FilesThere(), 1u) << "nothing half written is left behind";
}

TEST_F(PipelineCache, WhoReadsWhileOthersWriteReadsTheWholeOfOne) {
  const PipelineCacheFile file(folder_, device_);
  ASSERT_TRUE(file.Store(data_).ok());
  std::vector<std::thread> writers;
  std::atomic<int> failures{0};
  for (int w = 0; w < 3; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 50; ++i) {
        if (!file.Store(DriverData(device_, 100000, w)).ok()) ++failures;
      }
    });
  }
  for (int i = 0; i < 200; ++i) EXPECT_TRUE(file.Load().ok());
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(FilesThere(), 1u);
}

TEST_F(PipelineCache, ADeviceStartsAnewOverACorruptFile) {
  VulkanDeviceOptions options;
  options.device = "0";
  options.cache_folder = folder_;
  ASSERT_TRUE(CreateVulkanDevice(options).ok());
  ASSERT_EQ(FilesThere(), 1u);
  const std::string path = std::filesystem::directory_iterator(folder_)->path();
  const Data kept = ReadFile(path);
  WriteFile(path, Data(100, std::byte{1}));
  ASSERT_TRUE(CreateVulkanDevice(options).ok());
  EXPECT_EQ(ReadFile(path).size(), kept.size());
  // And over one that cannot be replaced.
  std::filesystem::remove_all(folder_);
  WriteFile(folder_, {});
  EXPECT_TRUE(CreateVulkanDevice(options).ok());
}

}  // namespace
}  // namespace tandem::vulkan
