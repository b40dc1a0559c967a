#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/tuning.h"
#include "lib/device/device.h"
#include "lib/model/tuning_mode.h"

namespace tandem {

class DispatchTimer;

struct VulkanDeviceOptions {
  // kAuto takes the profile that was kept for the device and its driver; where there is none and
  // the table has no measured row, the first Compile measures (tuner.h) and keeps one.
  // kAgain measures in any case, kOff never and reads no profile.
  TuningMode tuning = TuningMode::kOff;
  // Chained lists of one token or a few (chain.h). kOn: where the device cannot, or a trial at the
  // start goes wrong, making it fails. kAuto: with NVIDIA's driver, and where the trial goes well.
  ChainingMode chaining = ChainingMode::kOff;
  // "auto", a part of the device's name (letter case does not matter) or its index in
  // ListVulkanDevices. "auto" takes integrated before discrete before virtual, and never a software
  // driver; DeviceInfo::name says which.
  std::string device = "auto";
  // How regions of weights reach a device with unified memory. kZeroCopy: an import that fails is
  // an error. kUpload copies, for drivers that cannot import file-backed pages; it is never chosen
  // unasked. A device with memory of its own gets one staged upload either way.
  WeightImport weight_import = WeightImport::kZeroCopy;
  // Where compiled pipelines are kept for the next start (vulkan/pipeline_cache.h); empty: nowhere.
  // What cannot be read or written there is logged, and compiled anew.
  std::string cache_folder;
  // Turns on VK_LAYER_KHRONOS_validation; FAILED_PRECONDITION when the layer is not installed.
  bool validation = false;
  // Called with each warning and error of the validation layer, from any thread. Null: they go to
  // the log as errors.
  std::function<void(std::string_view)> on_validation_message;
  // For benchmarks: changes the row of the tuning table, and times dispatches. May be null.
  std::function<void(Tuning&)> tune;
  DispatchTimer* timer = nullptr;
};

// One device as the drivers show it, for `doctor` and for errors.
struct VulkanDeviceSummary {
  std::string name;                // "AMD Radeon 780M (RADV PHOENIX)"
  std::string driver;              // "radv Mesa 25.0.7"
  std::string type;                // "integrated", "discrete", "virtual", "cpu" or "other"
  std::string api_version;         // "1.3.230"
  std::uint64_t memory_bytes = 0;  // the largest device-local heap
  bool unified_memory = false;
  bool zero_copy_weights = false;  // VK_EXT_external_memory_host
  bool dma_buf = false;            // imports by VK_EXT_external_memory_dma_buf, for storage buffers
  bool dma_buf_export = false;
  std::string unusable;  // why Tandem cannot use it; empty when it can
};

// Every Vulkan device of this machine, in the order in which "auto" would take them. Empty when no
// driver is installed.
absl::StatusOr<std::vector<VulkanDeviceSummary>> ListVulkanDevices();

// NOT_FOUND names what was asked for and lists what is there. The device may be used by several
// threads; a program by one at a time. It must outlive everything it made.
absl::StatusOr<std::unique_ptr<Device>> CreateVulkanDevice(const VulkanDeviceOptions& options);

}  // namespace tandem
