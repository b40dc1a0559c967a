// The NPU's worker. XRT drives the NPU; the CPU device runs here too, when it is asked for by name.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/worker/worker_main.h"
#include "npu-worker/build_info.h"

namespace tandem {
namespace {

constexpr char kDevices[] = "cpu, or xrt (an NPU through AMD's XRT)";

absl::StatusOr<std::unique_ptr<Device>> CreateDevice(const WorkerFlags& flags) {
  if (flags.device == "cpu") return CreateCpuDevice({flags.threads});
  if (flags.device == "xrt") {
    return absl::UnimplementedError(absl::StrCat("--device=xrt: expected a build with XRT ",
                                                 kXrtWanted, " or newer, found ", kXrtFound,
                                                 " when this program was built"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--device: expected cpu or xrt, found '", flags.device, "'"));
}

int ListDevices() {
  std::printf("cpu\tthe processor, chosen by name only\n");
  std::printf("xrt\tnot in this program: built with XRT %s, needs %s or newer\n", kXrtFound,
              kXrtWanted);
  return 0;
}

int Main(const std::vector<std::string>& arguments) {
  absl::StatusOr<WorkerFlags> flags = ParseWorkerFlags("npu", arguments);
  PrepareWorkerProcess("npu", flags.ok() ? flags->log_level : "info");
  if (!flags.ok()) return FailStart(flags.status());
  if (flags->help) {
    std::fputs(WorkerUsage("tandem-npu-worker", kDevices).c_str(), stdout);
    return 0;
  }
  if (flags->list_devices) return ListDevices();
  absl::StatusOr<std::unique_ptr<Device>> device = CreateDevice(*flags);
  if (!device.ok()) return FailStart(device.status());
  return RunWorker(*flags, *std::move(device));
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main({argv + 1, argv + argc}); }
