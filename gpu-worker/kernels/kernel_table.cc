#include "gpu-worker/kernels/kernel_table.h"

#include "lib/base/status_macros.h"

namespace tandem::kernels {

const vulkan::ShaderCode& Find(std::string_view name) {
  for (const vulkan::ShaderCode& code : All()) {
    if (code.name == name) return code;
  }
  TANDEM_CHECK(!"no kernel of that name");
  return All().front();
}

}  // namespace tandem::kernels
