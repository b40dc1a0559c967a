// Any bytes as a kernel package's description: an error of one line or a package that the worker
// can use.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lib/base/status_macros.h"
#include "npu-worker/package/kernel_package.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto package =
      tandem::npu::ParseKernelPackage({reinterpret_cast<const char*>(data), size}, "package.json");
  if (!package.ok()) {
    TANDEM_CHECK(package.status().message().find('\n') == absl::string_view::npos);
    TANDEM_CHECK(package.status().message().size() < 1000);
    return 0;
  }
  TANDEM_CHECK(package->parameter_address + 4 <= tandem::npu::kCoreMemoryBytes);
  TANDEM_CHECK(package->xclbin_file.find('/') == std::string::npos);
  TANDEM_CHECK(package->array.rows > 0 && package->array.columns > 0);
  return 0;
}
