// The NPU's worker. XRT drives the NPU; the CPU device runs here too, when it is asked for by name.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/strings.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/worker/worker_main.h"
#include "npu-worker/xrt_choice.h"

namespace tandem {
namespace {

int ListDevices() {
  std::printf("cpu\tthe processor, chosen by name only\n");
  ListXrt();
  return 0;
}

int Main(int argc, char** argv) {
  CpuDeviceSettings cpu;
  NpuDeviceSettings npu;
  WorkerProgram program;
  program.name = "tandem-npu-worker";
  program.role = WorkerRole::kNpu;
  program.summary = "owns an NPU, or runs its part on the CPU device where that is named";
  program.devices = "cpu, or xrt (an NPU through AMD's XRT)";
  program.list_devices = ListDevices;
  bool selftest = false;
  program.flags = [&](FlagList* list) {
    AddCpuDeviceFlags(list, &cpu);
    AddNpuDeviceFlags(list, &npu);
    list->Section("This process", FlagScope::kCommandLine);
    list->Switch("selftest", &selftest,
                 "run every kernel on the NPU against its twin, print a report and end");
  };
  program.instead = [&]() -> std::optional<int> {
    if (!selftest) return std::nullopt;
    return SelftestXrt(npu.kernels);
  };
  program.create = [&](const std::string& name) -> absl::StatusOr<std::unique_ptr<Device>> {
    if (name == "cpu") return CreateCpuDevice({cpu.threads});
    if (name == "xrt") return CreateXrt(npu.kernels, cpu.threads);
    return absl::InvalidArgumentError(Cat("--device: expected cpu or xrt, found '", name, "'"));
  };
  return WorkerMain(program, argc, argv);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc, argv); }
