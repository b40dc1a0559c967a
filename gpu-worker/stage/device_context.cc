#include "gpu-worker/stage/device_context.h"

#include "gpu-worker/kernels/kernel_table.h"
#include "lib/base/status_macros.h"

namespace tandem {

absl::StatusOr<const vulkan::Pipeline*> PipelineLibrary::Get(
    std::string_view kernel, const std::vector<std::uint32_t>& constants) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<vulkan::Pipeline>& entry = pipelines_[{std::string(kernel), constants}];
  if (entry == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(entry,
                            vulkan::Pipeline::Create(device_, kernels::Find(kernel), constants));
  }
  return entry.get();
}

}  // namespace tandem
