// The GPU's worker: any Vulkan device that can do the work.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpu-worker/stage/tune_alone.h"
#include "gpu-worker/stage/vulkan_device.h"
#include "lib/base/kept_file.h"
#include "lib/service/process.h"
#include "lib/worker/worker_main.h"

namespace tandem {
namespace {

constexpr char kProgram[] = "tandem-gpu-worker";

int ListDevices() {
  absl::StatusOr<std::vector<VulkanDeviceSummary>> devices = ListVulkanDevices();
  if (!devices.ok()) return FailStart(kProgram, devices.status());
  for (std::size_t i = 0; i < devices->size(); ++i) {
    const VulkanDeviceSummary& device = (*devices)[i];
    const bool software = device.type == "cpu";
    std::printf("%zu\t%s\t%s\t%s\tVulkan %s\t%llu MiB%s%s%s\t%s\n", i, device.name.c_str(),
                device.driver.c_str(), device.type.c_str(), device.api_version.c_str(),
                static_cast<unsigned long long>(device.memory_bytes >> 20),
                device.unified_memory ? ", unified" : "",
                device.zero_copy_weights ? ", host-pointer" : "", device.dma_buf ? ", dma-buf" : "",
                !device.unusable.empty() ? device.unusable.c_str()
                : software               ? "software, runs only where it is named"
                                         : "usable");
  }
  return 0;
}

int Main(int argc, char** argv) {
  VulkanDeviceSettings settings;
  bool tune = false;
  TuneAloneOptions alone;
  WorkerProgram program;
  program.name = kProgram;
  program.role = WorkerRole::kGpu;
  program.summary = "owns a Vulkan device";
  program.devices =
      "auto (a GPU), a part of a Vulkan device's name, or its number (--list_devices shows both); "
      "a "
      "software driver runs only where it is named";
  program.list_devices = ListDevices;
  program.flags = [&](FlagList* list) {
    AddVulkanDeviceFlags(list, &settings);
    list->Section("This process", FlagScope::kCommandLine);
    list->Switch("tune", &tune, "measure how kernels are best shaped, keep that and end");
    list->Text("tune_device", &alone.device, "as --device, for --tune");
    list->Text("tune_shape", &alone.shape, "of Gemma 3, for --tune: 1b, 4b, 12b or 27b");
    list->Text("tune_weights", &alone.weights, "for --tune: int4 or int8");
  };
  program.instead = [&]() -> std::optional<int> {
    if (!tune) return std::nullopt;
    alone.cache_folder = UserCacheFolder();
    const absl::Status tuned = TuneAlone(alone);
    return tuned.ok() ? 0 : FailStart(kProgram, tuned);
  };
  program.create = [&](const std::string& name) {
    VulkanDeviceOptions options;
    options.device = name;
    options.weight_import = settings.weights;
    options.tuning = settings.tuning;
    options.chaining = settings.chaining;
    options.cache_folder = UserCacheFolder();
    return CreateVulkanDevice(options);
  };
  return WorkerMain(program, argc, argv);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc, argv); }
