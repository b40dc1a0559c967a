#include <cstdio>

#include "absl/strings/str_cat.h"
#include "npu-worker/build_info.h"
#include "npu-worker/xrt_choice.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<Device>> CreateXrt(const std::string&, int) {
  return absl::UnimplementedError(absl::StrCat("--device=xrt: expected a build with XRT ",
                                               kXrtWanted, " or newer, found ", kXrtFound,
                                               " when this program was built"));
}

int SelftestXrt(const std::string& kernels) {
  std::printf("ended by: %s\n", CreateXrt(kernels, 0).status().ToString().c_str());
  return 1;
}

void ListXrt() {
  std::printf("xrt\tnot in this program: built with XRT %s, needs %s or newer\n", kXrtFound,
              kXrtWanted);
}

}  // namespace tandem
