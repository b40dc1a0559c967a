#include "npu-worker/xrt_choice.h"

#include <cstdio>
#include <string>

#include "lib/base/status_macros.h"
#include "npu-worker/package/npu_family.h"
#include "npu-worker/xrt/selftest.h"
#include "npu-worker/xrt/xrt_device.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem {

namespace {

absl::Status CheckNamed(const std::string& kernels) {
  if (!kernels.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--npu_kernels: expected the folder of the NPU's kernels (tools/tandem_npu_kernels.py builds "
      "them), found nothing");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateXrt(const std::string& kernels, int threads) {
  TANDEM_RETURN_IF_ERROR(CheckNamed(kernels));
  return npu::CreateXrtDevice({.kernels = kernels, .threads = threads});
}

int SelftestXrt(const std::string& kernels) {
  const absl::Status named = CheckNamed(kernels);
  if (named.ok()) return npu::Selftest(kernels);
  std::printf("ended by: %s\n", named.ToString().c_str());
  return 1;
}

void ListXrt() {
  const auto npus = npu::ListNpus();
  if (!npus.ok()) {
    std::printf("xrt\t%s\n", std::string(npus.status().message()).c_str());
    return;
  }
  if (npus->empty()) std::printf("xrt\tno NPU\n");
  for (const npu::NpuInfo& npu : *npus) {
    std::printf("xrt\t%s at %s, %s, %u columns of %u cores, XRT %s, amdxdna %s, firmware %s\n",
                npu.name.c_str(), npu.address.c_str(), npu::GenerationName(npu.array).c_str(),
                npu.array.columns, npu.array.rows, npu.xrt.c_str(), npu.driver.c_str(),
                npu.firmware.empty() ? "unknown" : npu.firmware.c_str());
    const absl::Status firmware = npu::CheckFirmware(npu.array, npu.name, npu.firmware);
    if (!firmware.ok()) std::printf("xrt\t%s\n", std::string(firmware.message()).c_str());
    std::printf("xrt\tat most %.1f GB for weights in the array's order (half of the memory)\n",
                static_cast<double>(npu::DefaultWeightsBudget()) * 1e-9);
  }
}

}  // namespace tandem
