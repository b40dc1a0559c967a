#include "gpu-worker/vulkan/physical_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::vulkan {
namespace {

using testing::HasSubstr;

PhysicalDevice Named(std::string name, VkPhysicalDeviceType type, std::string unusable = "") {
  PhysicalDevice device;
  device.name = std::move(name);
  device.type = type;
  device.unusable = std::move(unusable);
  return device;
}

// As ListPhysicalDevices orders them.
std::vector<PhysicalDevice> Devices() {
  return {Named("AMD Radeon 780M", VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU),
          Named("NVIDIA H200", VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU),
          Named("llvmpipe (LLVM 15)", VK_PHYSICAL_DEVICE_TYPE_CPU),
          Named("Old Card", VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, "Vulkan 1.2 is needed")};
}

TEST(ChooseDevice, AutoTakesTheFirst) { EXPECT_EQ(*ChooseDevice(Devices(), "auto"), 0u); }

TEST(ChooseDevice, AutoNeverTakesASoftwareDriver) {
  const std::vector<PhysicalDevice> software = {Devices()[2], Devices()[3]};
  const auto chosen = ChooseDevice(software, "auto");
  ASSERT_EQ(chosen.status().code(), absl::StatusCode::kNotFound);
  const std::string text(chosen.status().message());
  EXPECT_THAT(text, HasSubstr("no GPU: there is 0: \"llvmpipe (LLVM 15)\" (cpu)"));
  EXPECT_THAT(text, HasSubstr("--gpu llvmpipe takes it"));
  EXPECT_THAT(text, HasSubstr("--gpu none --npu cpu"));
  for (const char* name : {"llvmpipe", "lavapipe", "Lavapipe", "0"})
    EXPECT_EQ(*ChooseDevice(software, name), 0u) << name;
}

TEST(ChooseDevice, ByNumber) {
  EXPECT_EQ(*ChooseDevice(Devices(), "2"), 2u);
  EXPECT_EQ(*ChooseDevice(Devices(), "780"), 0u) << "more than there are: part of a name";
  EXPECT_EQ(ChooseDevice(Devices(), "3").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ChooseDevice(Devices(), "99999999999999999999999").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ChooseDevice, ByPartOfTheNameInAnyCase) {
  EXPECT_EQ(*ChooseDevice(Devices(), "h200"), 1u);
  EXPECT_EQ(*ChooseDevice(Devices(), "LLVM"), 2u);
}

TEST(ChooseDevice, MissingOneListsWhatIsThere) {
  const auto chosen = ChooseDevice(Devices(), "GeForce");
  ASSERT_EQ(chosen.status().code(), absl::StatusCode::kNotFound);
  const std::string text(chosen.status().message());
  EXPECT_THAT(text, HasSubstr("GeForce"));
  EXPECT_THAT(text, HasSubstr("\"AMD Radeon 780M\" (integrated)"));
  EXPECT_THAT(text, HasSubstr("\"llvmpipe (LLVM 15)\" (cpu)"));
}

TEST(ChooseDevice, NamedButUnusable) {
  const auto chosen = ChooseDevice(Devices(), "old");
  ASSERT_EQ(chosen.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("Vulkan 1.2 is needed"));
}

TEST(ChooseDevice, NothingUsable) {
  EXPECT_EQ(ChooseDevice({}, "auto").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ChooseDevice({Devices().back()}, "auto").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ChooseDevice(Devices(), "").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MissingText, SaysHowMuchMoreThereWouldHaveToBe) {
  EXPECT_EQ(MissingText(1000, 400, 600), "");
  EXPECT_EQ(MissingText(1000, 400, 700),
            ", 100 are missing: this process may have 1000 of that memory and has taken 400");
  EXPECT_THAT(MissingText(1000, 1200, 700), HasSubstr("700 are missing"));
}

}  // namespace
}  // namespace tandem::vulkan
