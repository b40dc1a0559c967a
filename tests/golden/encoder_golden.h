#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"
#include "tests/golden/golden_case.h"
#include "tests/golden/golden_run.h"

namespace tandem {

// The golden set of an encoder: texts, and the embeddings that the reference implementation gives.

struct GoldenText {
  std::vector<std::int32_t> ids;
  // (hidden), of length 1.
  std::vector<float> embedding;
};

struct GoldenEncoder {
  GoldenSet set;
  std::vector<GoldenText> texts;
};
// tests/golden/data/encoder, relative to the repository's root.
absl::StatusOr<GoldenEncoder> LoadGoldenEncoder();

// The largest |difference| of a value over the embeddings of all texts, each computed in one step:
// with bf16 from the set's own, else from the float32 reference model's on the dequantised weights.
absl::StatusOr<double> RunGoldenEncoder(Device* device, const GoldenEncoder& encoder,
                                        const GoldenVariant& variant);
// The same for the reference model itself.
absl::StatusOr<double> ReferenceGoldenEncoder(const GoldenEncoder& encoder);

}  // namespace tandem
