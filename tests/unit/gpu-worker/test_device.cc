#include "tests/unit/gpu-worker/test_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "gpu-worker/vulkan/instance.h"

namespace tandem {
namespace {

struct Messages {
  std::mutex mutex;
  std::vector<std::string> texts;
};

Messages& AllMessages() {
  static Messages messages;
  return messages;
}

class ValidationCheck final : public testing::Environment {
 public:
  void TearDown() override {
    if (!HasValidationLayer()) {
      std::printf("VK_LAYER_KHRONOS_validation is not installed: validation was not checked\n");
    }
    EXPECT_THAT(ValidationMessages(), testing::IsEmpty());
  }
};

}  // namespace

bool HasValidationLayer() {
  // Never destroyed, which keeps drivers and layers loaded: what their static variables hold would
  // look lost to a leak checker once they are unloaded.
  static const auto* const instance = new absl::StatusOr<std::unique_ptr<vulkan::Instance>>(
      vulkan::Instance::Create(/*validation=*/true, nullptr));
  return instance->ok();
}

absl::StatusOr<std::unique_ptr<Device>> MakeTestDevice(ChainingMode chaining) {
  VulkanDeviceOptions options;
  options.chaining = chaining;
  // The best one that is there, be it a software driver.
  options.device = "0";
  options.validation = HasValidationLayer();
  // The regions of these tests come from no loader, so without dma-bufs: under those rules they can
  // only be copied.
  if (std::getenv("TANDEM_AMD_RULES") != nullptr) options.weight_import = WeightImport::kUpload;
  options.on_validation_message = [](std::string_view text) {
    Messages& messages = AllMessages();
    const std::lock_guard lock(messages.mutex);
    messages.texts.emplace_back(text);
  };
  return CreateVulkanDevice(options);
}

std::vector<std::string> ValidationMessages() {
  Messages& messages = AllMessages();
  const std::lock_guard lock(messages.mutex);
  return messages.texts;
}

void CheckValidationAtEnd() {
  // Loads the drivers for good.
  HasValidationLayer();
  testing::AddGlobalTestEnvironment(new ValidationCheck);
}

}  // namespace tandem
