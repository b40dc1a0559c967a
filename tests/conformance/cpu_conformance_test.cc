#include "gtest/gtest.h"
#include "lib/base/dma_buf.h"
#include "lib/device/conformance/conformance.h"
#include "lib/device/cpu/cpu_device.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Two threads also where there is one CPU: hand-overs between them are part of what is tested.
  tandem::ConformanceTarget target;
  target.name = "Cpu";
  target.make_device = [] { return tandem::CreateCpuDevice({.threads = 2}); };
  target.int8_activations = true;
  target.auto_activations = true;
  target.kv_types = {tandem::KvType::kFloat32, tandem::KvType::kFloat16, tandem::KvType::kInt8};
  target.products_apart = true;
  target.imports = {tandem::HandleKind::kDmaBuf, tandem::HandleKind::kHostPointer};
  target.exports_dma_buf = tandem::LargestDmaBuf() != 0;
  target.tolerances = {.bf16 = 1e-4,
                       .int8 = 1e-4,
                       .int4 = 1e-4,
                       .int8_activations = 0.2,
                       .int8_activations_mean = 0.04,
                       .float16_kv = 1e-2,
                       .batch = 0};
  tandem::RegisterConformance(target);
  return RUN_ALL_TESTS();
}
