#pragma once

#include <vulkan/vulkan.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::vulkan {

// What every buffer of ours may be used for.
inline constexpr VkBufferUsageFlags kBufferUsage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                                   VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                                   VK_BUFFER_USAGE_TRANSFER_DST_BIT;

// What a kernel needs of a device beyond Vulkan 1.2.
enum class KernelNeeds : std::uint8_t {
  kNothing,
  // Packed dot products of 8-bit integers, and shuffles among at least 8 invocations.
  kPackedDot,
  // Cooperative matrices of float16 into float32, 16 x 16 x 16, for subgroups of 32.
  kMatrix,
  // And of 16 x 8 x 16; whether their elements lie in the lanes where kernels with this need expect
  // them is found by a kernel.
  kFragments,
};

// What Tandem needs to know of one device, read once.
struct PhysicalDevice {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  std::string name;
  std::string driver;  // "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"
  VkDriverId driver_id = VK_DRIVER_ID_MAX_ENUM;
  VkPhysicalDeviceType type = VK_PHYSICAL_DEVICE_TYPE_OTHER;
  std::uint32_t api_version = 0;
  std::uint32_t vendor_id = 0;
  std::uint32_t device_id = 0;
  // Of the device and the driver's version: what compiled pipelines belong to.
  std::array<std::uint8_t, VK_UUID_SIZE> cache_uuid{};
  std::uint32_t compute_family = 0;
  // Of queues that only copy, beside those that compute; absent where there are none.
  std::optional<std::uint32_t> transfer_family;
  std::uint32_t subgroup_size = 0;
  // Multiprocessors or compute units; 0 where the driver does not say.
  std::uint32_t cores = 0;
  VkPhysicalDeviceLimits limits{};
  VkPhysicalDeviceMemoryProperties memory{};
  std::uint64_t max_allocation_bytes = 0;
  std::uint64_t host_pointer_alignment = 0;  // 0: no VK_EXT_external_memory_host
  bool external_fd = false;                  // VK_KHR_external_memory_fd
  // What VK_EXT_external_memory_dma_buf can do with storage buffers.
  bool dma_buf_import = false;
  bool dma_buf_export = false;
  bool foreign_queue = false;  // VK_EXT_queue_family_foreign
  bool reads_budget = false;   // VK_EXT_memory_budget
  bool packed_dot = false;     // KernelNeeds::kPackedDot
  // Such products of signed bytes are instructions of the device; else the driver takes them apart.
  bool fast_packed_dot = false;
  bool matrix = false;     // KernelNeeds::kMatrix
  bool fragments = false;  // KernelNeeds::kFragments
  // Kernels can be compiled without checks of every access against the end of its buffer, which
  // some drivers make though nobody asks for them (VK_EXT_pipeline_robustness).
  bool unchecked_buffers = false;
  // The size that kernels with needs are compiled for; 0: the driver chooses.
  std::uint32_t required_subgroup = 0;
  std::string unusable;  // what is missing; empty when the device can be used

  bool Has(KernelNeeds needs) const;
  // Memory that the processor and the device share: integrated GPUs and software rasterisers.
  bool unified_memory() const;
  std::uint64_t memory_bytes() const;  // the largest device-local heap
  // What this process may take of that heap now, what it has taken included; all of it where the
  // driver does not say.
  std::uint64_t budget_bytes() const;
  // For an error, of `bytes` that the heap of a memory type did not give: ", N are missing: ...";
  // empty where the driver does not say what is left, or says that there is enough.
  std::string HeapText(std::uint32_t memory_type, std::uint64_t bytes) const;
};

// What HeapText says of a heap with that budget, of which `used` bytes are taken.
std::string MissingText(std::uint64_t budget, std::uint64_t used, std::uint64_t bytes);

std::string_view DeviceTypeName(VkPhysicalDeviceType type);  // "integrated", "discrete", ...

// All devices, in the order of preference: usable first, then integrated, discrete, virtual, other,
// cpu; ties in the drivers' order.
absl::StatusOr<std::vector<PhysicalDevice>> ListPhysicalDevices(VkInstance instance);

// The index in `devices` (ordered as above) that `wanted` means: "auto", the index itself, or a
// part of a name regardless of letter case ("lavapipe", too, is Mesa's software driver, which calls
// itself llvmpipe). "auto" never means a device of type CPU, a software driver: that runs only
// where it is named. NOT_FOUND lists what is there; a named device that cannot be used is
// FAILED_PRECONDITION.
absl::StatusOr<std::size_t> ChooseDevice(const std::vector<PhysicalDevice>& devices,
                                         std::string_view wanted);

}  // namespace tandem::vulkan
