#pragma once

#include <span>
#include <string_view>

#include "gpu-worker/vulkan/pipeline.h"

namespace tandem::kernels {

// Every compute kernel of the program, in the order of the list in CMakeLists.txt. Tests and
// benchmarks walk it.
std::span<const vulkan::ShaderCode> All();

// The kernel of that name; asking for one that is not there is a bug.
const vulkan::ShaderCode& Find(std::string_view name);

}  // namespace tandem::kernels
