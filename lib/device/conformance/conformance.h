#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"
#include "lib/weights/format.h"

namespace tandem {

// The suite that every device passes: equal to the float32 reference (lib/device/reference) on
// small random models, and faithful to the contract of lib/device. A test program of its own
// registers it:
//
//   int main(int argc, char** argv) {
//     testing::InitGoogleTest(&argc, argv);
//     tandem::RegisterConformance(target);
//     return RUN_ALL_TESTS();
//   }
//
// Tests are called "<target.name>Conformance.<case>_<variant>". One device is made for all of them,
// at the first test; where that fails every test fails with the reason.

// Differences are |found - expected| / rms(expected) over all values of an answer (logits, or rows
// of the residual stream); the largest counts.
struct ConformanceTolerances {
  // Against the reference on the dequantised weights, float32 activations.
  double bf16 = 2e-3;
  double int8 = 2e-3;
  double int4 = 2e-3;
  // largest; activations are rounded to 8 bits per group of 32 before each product
  double int8_activations = 0.35;
  // root mean square of the differences instead of the largest
  double int8_activations_mean = 0.06;
  // With KvType::kFloat16, and kInt8.
  double float16_kv = 2e-2;
  double int8_kv = 0.1;
  // The same sequence in another batch, chunking or split: 0 asks for equal bits.
  double batch = 0;
};

struct ConformanceTarget {
  // [A-Za-z][A-Za-z0-9]*.
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make_device;
  std::vector<WeightFormat> formats = {WeightFormat::kBf16, WeightFormat::kInt8,
                                       WeightFormat::kInt4};
  // ActivationType::kInt8 with int8 and int4 weights; with bf16 it must be UNIMPLEMENTED
  bool int8_activations = false;
  // ActivationType::kFloat32; without it the cases that need some activations take int8
  bool float32_activations = true;
  // ActivationType::kAuto is more than kFloat32 with int8 and int4 weights; held to the tolerances
  // of int8 activations
  bool auto_activations = false;
  std::vector<KvType> kv_types = {KvType::kFloat32};
  // Computes what stands around attention that is cut out of a layer (StageSpec); else those stages
  // must be UNIMPLEMENTED. Every device takes attention alone.
  bool products_apart = false;
  // Kinds of shared memory that the device imports as a residual buffer. Kinds not named
  // here must be UNIMPLEMENTED.
  std::vector<HandleKind> imports = {HandleKind::kHostPointer};
  // ExportResidual(kDmaBuf) gives a dma-buf, which the same device takes back where it imports any;
  // else UNIMPLEMENTED
  bool exports_dma_buf = false;
  ConformanceTolerances tolerances;
};

// Adds the suite to the program's tests. Call before RUN_ALL_TESTS; `target` is copied.
void RegisterConformance(const ConformanceTarget& target);

}  // namespace tandem
