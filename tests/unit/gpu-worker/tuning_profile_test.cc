#include "gpu-worker/stage/tuning_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kVendors[] = {0x10de, 0x1002, 0x8086};

vulkan::PhysicalDevice DeviceOf(std::uint32_t vendor, VkPhysicalDeviceType type) {
  vulkan::PhysicalDevice device;
  device.vendor_id = vendor;
  device.type = type;
  device.limits.maxComputeWorkGroupInvocations = 1024;
  device.limits.maxComputeSharedMemorySize = 65536;
  return device;
}

std::vector<std::uint32_t> ValuesOf(const Tuning& tuning) {
  std::vector<std::uint32_t> values;
  for (const TuningField& field : TuningFields()) values.push_back(field.get(tuning));
  return values;
}

TEST(TuningProfile, EveryRowOfTheTableComesBack) {
  for (const std::uint32_t vendor : kVendors) {
    for (const VkPhysicalDeviceType type :
         {VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, VK_PHYSICAL_DEVICE_TYPE_CPU}) {
      const Tuning tuning = TuningFor(DeviceOf(vendor, type));
      const std::string text = WriteTuningProfile("a \"device\"", "driver\xff", tuning);
      Tuning read;
      ASSERT_TRUE(ReadTuningProfile(text, &read).ok()) << ReadTuningProfile(text, &read) << text;
      EXPECT_EQ(ValuesOf(read), ValuesOf(tuning)) << tuning.name;
    }
  }
}

TEST(TuningProfile, EveryValueOfEveryFieldComesBack) {
  for (const TuningField& field : TuningFields()) {
    for (const std::uint32_t value : field.values) {
      Tuning tuning;
      Tuning read;
      ASSERT_TRUE(
          ReadTuningProfile(WriteTuningProfile("", "", TuningFor(DeviceOf(0, {}))), &tuning).ok());
      field.set(tuning, value);
      EXPECT_EQ(field.get(tuning), value) << field.name;
      ASSERT_TRUE(ReadTuningProfile(WriteTuningProfile("", "", tuning), &read).ok());
      EXPECT_EQ(ValuesOf(read), ValuesOf(tuning)) << field.name;
    }
  }
}

TEST(TuningProfile, WhatIsNoProfileChangesNothing) {
  const Tuning before = TuningFor(DeviceOf(0x1002, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU));
  const std::string good = WriteTuningProfile("device", "driver", before);
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::string bad[] = {"",
                             "[]",
                             "{}",
                             "{\"version\": 1}",
                             good.substr(0, good.size() / 2),
                             changed("\"version\": 1", "\"version\": 2"),
                             changed("\"dot.lanes\": 8", "\"dot.lanes\": 7"),
                             changed("\"dot.lanes\": 8", "\"dot.lanes\": -8"),
                             changed("\"dot.lanes\": 8", "\"dot.lanes\": 8.0"),
                             changed("\"dot.lanes\": 8", "\"dot.lanes\": \"8\""),
                             changed("\"dot.lanes\": 8", "\"dot.lanes\": 4294967304"),
                             changed("\"dot.lanes\"", "\"dot.planes\""),
                             changed("\"fields\": {", "\"fields\": {\"more\": 1, "),
                             std::string(1 << 20, '[')};
  for (const std::string& text : bad) {
    Tuning tuning = before;
    EXPECT_TRUE(absl::IsDataLoss(ReadTuningProfile(text, &tuning))) << text.substr(0, 200);
    EXPECT_EQ(ValuesOf(tuning), ValuesOf(before));
  }
}

TEST(TuningProfile, WhatADeviceDoesNotAllowIsCut) {
  vulkan::PhysicalDevice small = DeviceOf(0, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU);
  small.limits.maxComputeWorkGroupInvocations = 128;
  small.limits.maxComputeSharedMemorySize = 16384;
  Tuning tuning;
  for (const TuningField& field : TuningFields()) field.set(tuning, field.values.back());
  CutTuning(small, &tuning);
  EXPECT_EQ(tuning.dot.threads, 128u);
  EXPECT_EQ(tuning.dot_post_norm.threads, 128u);
  EXPECT_EQ(tuning.decode.threads, 128u);
  EXPECT_EQ(tuning.norm_lanes, 128u);
  EXPECT_EQ(tuning.dot_geglu.lanes, 4u);
}

}  // namespace
}  // namespace tandem
