#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/weights/format.h"
#include "tests/unit/gpu-worker/kernel_twins.h"

namespace tandem {

// A weight matrix as kernels bind it.
struct TestMatrix {
  std::int64_t rows;
  std::int64_t cols;
  WeightFormat format;
  Bytes values;
  Bytes scales;  // empty where the format has none; padded to whole words

  std::vector<float> Row(std::int64_t row) const;
};

// Random planes, not quantised floats: every bit pattern counts.
TestMatrix RandomMatrix(WeightFormat format, std::int64_t rows, std::int64_t cols,
                        TestRandom* random);

// Of a kernel called <kernel>_<format> or <kernel>_<format>_<more>.
WeightFormat WeightFormatOf(const std::string& kernel);

// A step of so many tokens and logit rows.
TestStep StepOf(std::int32_t tokens);

}  // namespace tandem
