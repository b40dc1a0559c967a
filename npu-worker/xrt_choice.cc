#include "npu-worker/xrt_choice.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "npu-worker/xrt/xrt_device.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<Device>> CreateXrt(int threads) {
  const char* kernels = std::getenv("TANDEM_NPU_KERNELS");
  if (kernels == nullptr || *kernels == '\0') {
    return absl::InvalidArgumentError(
        "--device=xrt: expected the folder of the NPU's kernels in TANDEM_NPU_KERNELS "
        "(tools/tandem_npu_kernels.py builds them)");
  }
  return npu::CreateXrtDevice({.kernels = kernels, .threads = threads});
}

void ListXrt() {
  const auto npus = npu::ListNpus();
  if (!npus.ok()) {
    std::printf("xrt\t%s\n", std::string(npus.status().message()).c_str());
    return;
  }
  if (npus->empty()) std::printf("xrt\tno NPU\n");
  for (const npu::NpuInfo& npu : *npus) {
    std::printf("xrt\t%s at %s, %u x %u cores, XRT %s\n", npu.name.c_str(), npu.address.c_str(),
                npu.array.rows, npu.array.columns, npu.xrt.c_str());
  }
}

}  // namespace tandem
