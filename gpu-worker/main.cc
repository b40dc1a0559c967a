// The GPU's worker: any Vulkan device that can do the work.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "gpu-worker/stage/vulkan_device.h"
#include "lib/worker/worker_main.h"

namespace tandem {
namespace {

constexpr char kDevices[] = "auto, or a part of a Vulkan device's name (--list_devices shows them)";

int ListDevices() {
  absl::StatusOr<std::vector<VulkanDeviceSummary>> devices = ListVulkanDevices();
  if (!devices.ok()) {
    std::fprintf(stderr, "%s\n", std::string(devices.status().message()).c_str());
    return kExitBadStart;
  }
  for (const VulkanDeviceSummary& device : *devices) {
    std::printf("%s\t%s\t%s\tVulkan %s\t%llu MiB%s%s%s\t%s\n", device.name.c_str(),
                device.driver.c_str(), device.type.c_str(), device.api_version.c_str(),
                static_cast<unsigned long long>(device.memory_bytes >> 20),
                device.unified_memory ? ", unified" : "",
                device.zero_copy_weights ? ", host-pointer" : "", device.dma_buf ? ", dma-buf" : "",
                device.unusable.empty() ? "usable" : device.unusable.c_str());
  }
  return 0;
}

int Main(const std::vector<std::string>& arguments) {
  absl::StatusOr<WorkerFlags> flags = ParseWorkerFlags("gpu", arguments);
  PrepareWorkerProcess("gpu", flags.ok() ? flags->log_level : "info");
  if (!flags.ok()) return FailStart(flags.status());
  if (flags->help) {
    std::fputs(WorkerUsage("tandem-gpu-worker", kDevices).c_str(), stdout);
    return 0;
  }
  if (flags->list_devices) return ListDevices();
  VulkanDeviceOptions options;
  options.device = flags->device;
  if (flags->weights == "upload") options.weight_import = WeightImport::kUpload;
  absl::StatusOr<std::unique_ptr<Device>> device = CreateVulkanDevice(options);
  if (!device.ok()) return FailStart(device.status());
  return RunWorker(*flags, *std::move(device));
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main({argv + 1, argv + argc}); }
