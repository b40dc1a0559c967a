#include "gpu-worker/vulkan/physical_device.h"

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "gpu-worker/vulkan/kernel_features.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

constexpr std::uint32_t kStorageBuffersPerStage = 8;  // the kernel with the most bindings fits
constexpr std::uint32_t kWorkgroupInvocations = 128;

int Preference(const PhysicalDevice& device) {
  if (!device.unusable.empty()) return 100;
  switch (device.type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return 0;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return 4;
    default:
      return 3;
  }
}

absl::StatusOr<std::set<std::string>> Extensions(VkPhysicalDevice handle) {
  std::uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkEnumerateDeviceExtensionProperties(handle, nullptr, &count, nullptr),
               "listing Vulkan device extensions"));
  std::vector<VkExtensionProperties> properties(count);
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkEnumerateDeviceExtensionProperties(handle, nullptr, &count, properties.data()),
               "listing Vulkan device extensions"));
  std::set<std::string> names;
  for (const VkExtensionProperties& extension : properties) names.insert(extension.extensionName);
  return names;
}

std::vector<VkQueueFamilyProperties> QueueFamilies(VkPhysicalDevice handle) {
  std::uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(handle, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(handle, &count, families.data());
  return families;
}

std::optional<std::uint32_t> TransferFamily(VkPhysicalDevice handle) {
  const std::vector<VkQueueFamilyProperties> families = QueueFamilies(handle);
  for (std::uint32_t i = 0; i < families.size(); ++i) {
    // Compute and graphics can copy, whether they say so or not.
    constexpr VkQueueFlags kKinds =
        VK_QUEUE_TRANSFER_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT;
    const VkExtent3D& grain = families[i].minImageTransferGranularity;
    const bool for_video = grain.width == 0 && grain.height == 0 && grain.depth == 0;
    if ((families[i].queueFlags & kKinds) == VK_QUEUE_TRANSFER_BIT && !for_video) return i;
  }
  return std::nullopt;
}

// Prefers a family for compute alone: it does not share its queue with a desktop.
std::optional<std::uint32_t> ComputeFamily(VkPhysicalDevice handle) {
  const std::vector<VkQueueFamilyProperties> families = QueueFamilies(handle);
  std::optional<std::uint32_t> best;
  for (std::uint32_t i = 0; i < families.size(); ++i) {
    if ((families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) == 0) continue;
    if ((families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT) == 0) return i;
    if (!best.has_value()) best = i;
  }
  return best;
}

std::optional<std::uint32_t> LargestLocalHeap(const VkPhysicalDeviceMemoryProperties& memory) {
  std::optional<std::uint32_t> best;
  for (std::uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
    const VkMemoryHeap& heap = memory.memoryHeaps[i];
    if ((heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) == 0) continue;
    if (!best.has_value() || heap.size > memory.memoryHeaps[*best].size) best = i;
  }
  return best;
}

void ReadDmaBuf(PhysicalDevice* device) {
  auto info = Structure<VkPhysicalDeviceExternalBufferInfo>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO);
  info.usage = kBufferUsage;
  info.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
  auto properties =
      Structure<VkExternalBufferProperties>(VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES);
  vkGetPhysicalDeviceExternalBufferProperties(device->handle, &info, &properties);
  const VkExternalMemoryFeatureFlags features =
      properties.externalMemoryProperties.externalMemoryFeatures;
  device->dma_buf_import = (features & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT) != 0;
  device->dma_buf_export = (features & VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT) != 0;
}

void ReadProperties(const std::set<std::string>& extensions, PhysicalDevice* device) {
  auto host = Structure<VkPhysicalDeviceExternalMemoryHostPropertiesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
  auto v12 = Structure<VkPhysicalDeviceVulkan12Properties>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES);
  auto v11 = Structure<VkPhysicalDeviceVulkan11Properties>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES);
  auto properties =
      Structure<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
  const bool host_import = extensions.contains(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  properties.pNext = &v11;
  v11.pNext = &v12;
  if (host_import) v12.pNext = &host;
  vkGetPhysicalDeviceProperties2(device->handle, &properties);
  vkGetPhysicalDeviceMemoryProperties(device->handle, &device->memory);
  device->limits = properties.properties.limits;
  device->driver = Cat(v12.driverName, " ", v12.driverInfo);
  device->driver_id = v12.driverID;
  device->subgroup_size = v11.subgroupSize;
  device->max_allocation_bytes = v11.maxMemoryAllocationSize;
  if (host_import) device->host_pointer_alignment = host.minImportedHostPointerAlignment;
  device->external_fd = extensions.contains(VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
  if (device->external_fd && extensions.contains(VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME)) {
    ReadDmaBuf(device);
  }
  device->reads_budget = extensions.contains(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
  device->foreign_queue = extensions.contains(VK_EXT_QUEUE_FAMILY_FOREIGN_EXTENSION_NAME);
}

void ReadCores(const std::set<std::string>& extensions, PhysicalDevice* device) {
  auto properties =
      Structure<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
  if (extensions.contains(VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME)) {
    auto builtins = Structure<VkPhysicalDeviceShaderSMBuiltinsPropertiesNV>(
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV);
    properties.pNext = &builtins;
    vkGetPhysicalDeviceProperties2(device->handle, &properties);
    device->cores = builtins.shaderSMCount;
  } else if (extensions.contains(VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME)) {
    auto cores = Structure<VkPhysicalDeviceShaderCorePropertiesAMD>(
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD);
    properties.pNext = &cores;
    vkGetPhysicalDeviceProperties2(device->handle, &properties);
    device->cores = cores.shaderEngineCount * cores.shaderArraysPerEngineCount *
                    cores.computeUnitsPerShaderArray;
  }
}

absl::StatusOr<PhysicalDevice> ReadDevice(VkInstance instance, VkPhysicalDevice handle) {
  PhysicalDevice device;
  device.handle = handle;
  VkPhysicalDeviceProperties basic{};
  vkGetPhysicalDeviceProperties(handle, &basic);
  device.name = basic.deviceName;
  device.type = basic.deviceType;
  device.api_version = basic.apiVersion;
  device.vendor_id = basic.vendorID;
  device.device_id = basic.deviceID;
  std::copy_n(basic.pipelineCacheUUID, VK_UUID_SIZE, device.cache_uuid.begin());
  device.limits = basic.limits;
  if (basic.apiVersion < VK_API_VERSION_1_2) {
    device.unusable =
        Cat("Vulkan 1.2 is needed, the driver has 1.", VK_API_VERSION_MINOR(basic.apiVersion));
    return device;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::set<std::string> extensions, Extensions(handle));
  ReadProperties(extensions, &device);
  ReadCores(extensions, &device);
  KernelFeatures(handle, extensions).Judge(instance, &device);
  const std::optional<std::uint32_t> family = ComputeFamily(handle);
  if (!family.has_value()) {
    device.unusable = "it has no compute queue";
    return device;
  }
  device.compute_family = *family;
  device.transfer_family = TransferFamily(handle);
  if (device.limits.maxPerStageDescriptorStorageBuffers < kStorageBuffersPerStage) {
    device.unusable =
        Cat("kernels bind ", kStorageBuffersPerStage, " storage buffers, the driver allows ",
            device.limits.maxPerStageDescriptorStorageBuffers);
  } else if (device.limits.maxComputeWorkGroupInvocations < kWorkgroupInvocations) {
    device.unusable = Cat("kernels use workgroups of ", kWorkgroupInvocations,
                          ", the driver allows ", device.limits.maxComputeWorkGroupInvocations);
  }
  return device;
}

std::string Listing(const std::vector<PhysicalDevice>& devices) {
  if (devices.empty()) return "no Vulkan device is there";
  std::string text = "there is ";
  for (std::size_t i = 0; i < devices.size(); ++i) {
    text +=
        Cat(i == 0 ? "" : ", ", i, ": \"", devices[i].name, "\" (", DeviceTypeName(devices[i].type),
            devices[i].unusable.empty() ? "" : ", not usable: ", devices[i].unusable, ")");
  }
  return text;
}

// What "auto" must not take is still there to be named.
absl::StatusOr<std::size_t> ChooseAuto(const std::vector<PhysicalDevice>& devices) {
  std::string software;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (!devices[i].unusable.empty()) continue;
    if (devices[i].type != VK_PHYSICAL_DEVICE_TYPE_CPU) return i;
    if (software.empty()) software = absl::AsciiStrToLower(devices[i].name);
  }
  if (software.empty())
    return absl::NotFoundError(Cat("no usable Vulkan device: ", Listing(devices)));
  software.resize(std::min(software.find(' '), software.size()));
  return absl::NotFoundError(
      Cat("no GPU: ", Listing(devices), ". A software driver runs only where it is named: --gpu ",
          software, " takes it; the CPU device (--gpu none --npu cpu) is faster"));
}

// The index that a text of digits means, if there are that many devices.
std::optional<std::size_t> IndexIn(const std::vector<PhysicalDevice>& devices,
                                   std::string_view text) {
  std::size_t index = 0;
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  if (!digits || !absl::SimpleAtoi(AbslView(text), &index) || index >= devices.size())
    return std::nullopt;
  return index;
}

}  // namespace

bool PhysicalDevice::Has(KernelNeeds needs) const {
  switch (needs) {
    case KernelNeeds::kNothing:
      return true;
    case KernelNeeds::kPackedDot:
      return packed_dot;
    case KernelNeeds::kMatrix:
      return matrix;
    case KernelNeeds::kFragments:
      return fragments;
  }
  TANDEM_CHECK(false);
}

bool PhysicalDevice::unified_memory() const {
  return type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || type == VK_PHYSICAL_DEVICE_TYPE_CPU;
}

std::uint64_t PhysicalDevice::memory_bytes() const {
  const std::optional<std::uint32_t> heap = LargestLocalHeap(memory);
  return heap.has_value() ? memory.memoryHeaps[*heap].size : 0;
}

std::uint64_t PhysicalDevice::budget_bytes() const {
  const std::optional<std::uint32_t> heap = LargestLocalHeap(memory);
  if (!reads_budget || !heap.has_value()) return memory_bytes();
  auto budget = Structure<VkPhysicalDeviceMemoryBudgetPropertiesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
  auto properties = Structure<VkPhysicalDeviceMemoryProperties2>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2);
  properties.pNext = &budget;
  vkGetPhysicalDeviceMemoryProperties2(handle, &properties);
  return std::min<std::uint64_t>(budget.heapBudget[*heap], memory_bytes());
}

std::string PhysicalDevice::HeapText(std::uint32_t memory_type, std::uint64_t bytes) const {
  if (!reads_budget) return "";
  auto budget = Structure<VkPhysicalDeviceMemoryBudgetPropertiesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
  auto properties = Structure<VkPhysicalDeviceMemoryProperties2>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2);
  properties.pNext = &budget;
  vkGetPhysicalDeviceMemoryProperties2(handle, &properties);
  const std::uint32_t heap = memory.memoryTypes[memory_type].heapIndex;
  return MissingText(budget.heapBudget[heap], budget.heapUsage[heap], bytes);
}

std::string MissingText(std::uint64_t budget, std::uint64_t used, std::uint64_t bytes) {
  const std::uint64_t left = budget - std::min(budget, used);
  if (left >= bytes) return "";
  return Cat(", ", bytes - left, " are missing: this process may have ", budget,
             " of that memory and has taken ", used);
}

std::string_view DeviceTypeName(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return "cpu";
    default:
      return "other";
  }
}

absl::StatusOr<std::vector<PhysicalDevice>> ListPhysicalDevices(VkInstance instance) {
  std::uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkEnumeratePhysicalDevices(instance, &count, nullptr), "listing Vulkan devices"));
  std::vector<VkPhysicalDevice> handles(count);
  TANDEM_RETURN_IF_ERROR(ToStatus(vkEnumeratePhysicalDevices(instance, &count, handles.data()),
                                  "listing Vulkan devices"));
  std::vector<PhysicalDevice> devices;
  for (VkPhysicalDevice handle : handles) {
    TANDEM_ASSIGN_OR_RETURN(PhysicalDevice device, ReadDevice(instance, handle));
    devices.push_back(std::move(device));
  }
  std::stable_sort(devices.begin(), devices.end(),
                   [](const auto& a, const auto& b) { return Preference(a) < Preference(b); });
  return devices;
}

absl::StatusOr<std::size_t> ChooseDevice(const std::vector<PhysicalDevice>& devices,
                                         std::string_view wanted) {
  if (wanted == "auto") return ChooseAuto(devices);
  if (wanted.empty()) {
    return absl::InvalidArgumentError(
        "the name of a Vulkan device is empty: expected \"auto\", a device's number or a part of "
        "its "
        "name");
  }
  std::string needle = absl::AsciiStrToLower(AbslView(wanted));
  if (needle == "lavapipe") needle = "llvmpipe";
  std::optional<std::size_t> chosen = IndexIn(devices, wanted);
  for (std::size_t i = 0; i < devices.size() && !chosen.has_value(); ++i) {
    if (absl::StrContains(absl::AsciiStrToLower(devices[i].name), needle)) chosen = i;
  }
  if (!chosen.has_value()) {
    return absl::NotFoundError(
        Cat("no Vulkan device whose name contains \"", wanted, "\": ", Listing(devices)));
  }
  const PhysicalDevice& device = devices[*chosen];
  if (device.unusable.empty()) return *chosen;
  return absl::FailedPreconditionError(
      Cat("Vulkan device \"", device.name, "\" cannot be used: ", device.unusable));
}

}  // namespace tandem::vulkan
