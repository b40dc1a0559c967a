// The step's parameters, binding 0.
#include "gpu-worker/kernels/common/step_params.h"

layout(std430, set = 0, binding = 0) readonly buffer StepBuffer {
  StepHeader step;
  uint step_words[];
};

uint StepRows(uint which) { return which == kRowsAreLogits ? step.logit_rows : step.tokens; }

uint ResidualBase(uint which) {
  return which == kBaseInput ? step.input_base : (which == kBaseOutput ? step.output_base : 0u);
}
