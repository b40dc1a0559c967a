#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/vulkan_device.h"

namespace tandem {

// The Vulkan device that is there, for tests: with validation wherever the layer is installed.
// Messages are collected for the whole program.
absl::StatusOr<std::unique_ptr<Device>> MakeTestDevice(ChainingMode chaining = ChainingMode::kAuto);
bool HasValidationLayer();
std::vector<std::string> ValidationMessages();

// Adds a check after all tests: no validation message came. Call after InitGoogleTest.
void CheckValidationAtEnd();

}  // namespace tandem
