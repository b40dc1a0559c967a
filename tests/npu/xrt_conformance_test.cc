// The conformance suite on the XRT device. It takes int8 activations only: those cases are run
// (CMakeLists.txt names them); the others it refuses, which xrt_device_test holds.
#include <cstdlib>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance.h"
#include "npu-worker/xrt/xrt_device.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* folder = std::getenv("TANDEM_NPU_PACKAGES");
  tandem::ConformanceTarget target;
  target.name = "Xrt";
  target.make_device = [folder] {
    return tandem::npu::CreateXrtDevice(
        {.kernels = folder == nullptr ? "" : folder, .threads = 2, .weights_budget = 0});
  };
  target.formats = {tandem::WeightFormat::kInt8, tandem::WeightFormat::kInt4};
  target.int8_activations = true;
  target.float32_activations = false;
  target.kv_types = {tandem::KvType::kFloat32, tandem::KvType::kFloat16, tandem::KvType::kInt8};
  target.products_apart = true;
  target.exports_dma_buf = true;
  // As the CPU device's.
  target.tolerances.int8_activations = 0.2;
  target.tolerances.int8_activations_mean = 0.04;
  target.tolerances.batch = 0;
  tandem::RegisterConformance(target);
  return RUN_ALL_TESTS();
}
