#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "gpu-worker/stage/vulkan_device.h"
#include "gtest/gtest.h"
#include "lib/device/conformance/conformance.h"
#include "tests/unit/gpu-worker/test_device.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // First, so that it looks after the device is gone.
  tandem::CheckValidationAtEnd();
  const auto devices = tandem::ListVulkanDevices();
  if (!devices.ok() || devices->empty()) {
    std::fprintf(stderr, "no Vulkan device is there\n");
    return 1;
  }
  const tandem::VulkanDeviceSummary& summary = devices->front();
  std::printf("Vulkan device: %s, %s\n", summary.name.c_str(), summary.driver.c_str());
  tandem::ConformanceTarget target;
  // With --chained: products and attention of few tokens do not have barriers between them.
  const bool chained = argc == 2 && std::string_view(argv[1]) == "--chained";
  target.name = chained ? "VulkanChained" : "Vulkan";
  target.make_device = [chained] {
    return tandem::MakeTestDevice(chained ? tandem::ChainingMode::kOn : tandem::ChainingMode::kOff);
  };
  target.kv_types = {tandem::KvType::kFloat32, tandem::KvType::kFloat16, tandem::KvType::kInt8};
  target.auto_activations = true;
  target.imports.clear();
  if (summary.dma_buf) target.imports.push_back(tandem::HandleKind::kDmaBuf);
  if (summary.zero_copy_weights && std::getenv("TANDEM_AMD_RULES") == nullptr)
    target.imports.push_back(tandem::HandleKind::kHostPointer);
  target.exports_dma_buf = summary.dma_buf_export;
  // Sums run in another order in the kernels for few and for many tokens.
  target.tolerances = {.bf16 = 1e-4, .int8 = 1e-4, .int4 = 1e-4, .float16_kv = 1e-2, .batch = 1e-4};
  tandem::RegisterConformance(target);
  return RUN_ALL_TESTS();
}
