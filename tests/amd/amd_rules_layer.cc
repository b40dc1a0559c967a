// A Vulkan layer that makes any driver as strict about memory from outside as the amdgpu kernel
// driver is:
//   - host pointers are taken for anonymous private memory only: pages of a file (a memfd is one)
//     and shared pages are refused
//   - only real dma-bufs are taken for dma-bufs, and none larger than TANDEM_AMD_LIMIT_MB (64, the
//     limit of udmabuf)
//   - a dma-buf that was imported is not mapped: on a real machine the processor's access to a
//     GPU's mapping of an NPU's memory is SIGBUS
// Refusals go to standard error.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

namespace {

struct InstanceFunctions {
  PFN_vkGetInstanceProcAddr next = nullptr;
  PFN_vkDestroyInstance destroy = nullptr;
};
struct DeviceFunctions {
  PFN_vkGetDeviceProcAddr next = nullptr;
  PFN_vkDestroyDevice destroy = nullptr;
  PFN_vkAllocateMemory allocate = nullptr;
  PFN_vkFreeMemory free = nullptr;
  PFN_vkMapMemory map = nullptr;
  PFN_vkGetMemoryFdPropertiesKHR fd_properties = nullptr;
};

std::mutex mutex;
std::map<void*, InstanceFunctions> instances;
std::map<void*, DeviceFunctions> devices;
std::set<VkDeviceMemory> imported;

// What the loader keeps at the start of every dispatchable object.
template <typename Handle>
void* KeyOf(Handle handle) {
  return *reinterpret_cast<void**>(handle);
}
template <typename Handle>
InstanceFunctions InstanceOf(Handle handle) {
  const std::lock_guard lock(mutex);
  return instances[KeyOf(handle)];
}
DeviceFunctions DeviceOf(VkDevice device) {
  const std::lock_guard lock(mutex);
  return devices[KeyOf(device)];
}

VkResult Refuse(const char* why, unsigned long long bytes) {
  std::fprintf(stderr, "amd rules: refused an import of %llu bytes: %s\n", bytes, why);
  return VK_ERROR_INVALID_EXTERNAL_HANDLE;
}

// Whether any page of the range belongs to a file or is shared.
bool HasFilePages(const void* pointer, std::uint64_t bytes) {
  const auto begin = reinterpret_cast<std::uint64_t>(pointer);
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) return true;
  char line[512];
  bool found = false;
  while (!found && std::fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long long from = 0;
    unsigned long long to = 0;
    unsigned long long inode = 0;
    char modes[8] = {};
    if (std::sscanf(line, "%llx-%llx %7s %*x %*x:%*x %llu", &from, &to, modes, &inode) != 4)
      continue;
    if (to <= begin || from >= begin + bytes) continue;
    found = inode != 0 || modes[3] == 's';
  }
  std::fclose(maps);
  return found;
}

bool IsDmaBuf(int fd) {
  struct statfs info;
  return fstatfs(fd, &info) == 0 && info.f_type == static_cast<long>(DMA_BUF_MAGIC);
}

std::uint64_t Limit() {
  const char* text = std::getenv("TANDEM_AMD_LIMIT_MB");
  const std::uint64_t mib = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  return (mib == 0 ? 64 : mib) << 20;
}

template <typename Structure>
const Structure* Find(const void* chain, VkStructureType type) {
  for (const auto* at = static_cast<const VkBaseInStructure*>(chain); at != nullptr;
       at = at->pNext) {
    if (at->sType == type) return reinterpret_cast<const Structure*>(at);
  }
  return nullptr;
}

VKAPI_ATTR VkResult VKAPI_CALL AllocateMemory(VkDevice device, const VkMemoryAllocateInfo* info,
                                              const VkAllocationCallbacks* callbacks,
                                              VkDeviceMemory* memory) {
  const auto* host = Find<VkImportMemoryHostPointerInfoEXT>(
      info->pNext, VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT);
  if (host != nullptr && HasFilePages(host->pHostPointer, info->allocationSize))
    return Refuse("the pages of this host pointer have a file or are shared", info->allocationSize);
  const auto* file =
      Find<VkImportMemoryFdInfoKHR>(info->pNext, VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR);
  if (file != nullptr && file->handleType == VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT) {
    if (!IsDmaBuf(file->fd)) return Refuse("this is no dma-buf", info->allocationSize);
    const off_t size = lseek(file->fd, 0, SEEK_END);
    if (size < 0 || static_cast<std::uint64_t>(size) > Limit())
      return Refuse("the dma-buf is over the limit", static_cast<unsigned long long>(size));
    if (static_cast<std::uint64_t>(size) < info->allocationSize)
      return Refuse("the dma-buf is smaller than the allocation", info->allocationSize);
  }
  const VkResult result = DeviceOf(device).allocate(device, info, callbacks, memory);
  if (result == VK_SUCCESS && file != nullptr) {
    const std::lock_guard lock(mutex);
    imported.insert(*memory);
  }
  return result;
}

VKAPI_ATTR void VKAPI_CALL FreeMemory(VkDevice device, VkDeviceMemory memory,
                                      const VkAllocationCallbacks* callbacks) {
  {
    const std::lock_guard lock(mutex);
    imported.erase(memory);
  }
  DeviceOf(device).free(device, memory, callbacks);
}

VKAPI_ATTR VkResult VKAPI_CALL MapMemory(VkDevice device, VkDeviceMemory memory,
                                         VkDeviceSize offset, VkDeviceSize size,
                                         VkMemoryMapFlags flags, void** data) {
  {
    const std::lock_guard lock(mutex);
    if (imported.contains(memory)) {
      std::fprintf(stderr, "amd rules: refused to map an imported dma-buf\n");
      return VK_ERROR_MEMORY_MAP_FAILED;
    }
  }
  return DeviceOf(device).map(device, memory, offset, size, flags, data);
}

VKAPI_ATTR VkResult VKAPI_CALL GetMemoryFdPropertiesKHR(VkDevice device,
                                                        VkExternalMemoryHandleTypeFlagBits type,
                                                        int fd,
                                                        VkMemoryFdPropertiesKHR* properties) {
  if (type == VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT && !IsDmaBuf(fd))
    return Refuse("this is no dma-buf", 0);
  return DeviceOf(device).fd_properties(device, type, fd, properties);
}

VKAPI_ATTR VkResult VKAPI_CALL CreateInstance(const VkInstanceCreateInfo* info,
                                              const VkAllocationCallbacks* callbacks,
                                              VkInstance* instance) {
  // The chain is the loader's and meant to be advanced.
  auto* link = const_cast<VkLayerInstanceCreateInfo*>(
      Find<VkLayerInstanceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO));
  while (link != nullptr && link->function != VK_LAYER_LINK_INFO) {
    link = const_cast<VkLayerInstanceCreateInfo*>(Find<VkLayerInstanceCreateInfo>(
        link->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO));
  }
  if (link == nullptr) return VK_ERROR_INITIALIZATION_FAILED;
  const PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create =
      reinterpret_cast<PFN_vkCreateInstance>(next(VK_NULL_HANDLE, "vkCreateInstance"));
  const VkResult result = create(info, callbacks, instance);
  if (result != VK_SUCCESS) return result;
  InstanceFunctions functions;
  functions.next = next;
  functions.destroy = reinterpret_cast<PFN_vkDestroyInstance>(next(*instance, "vkDestroyInstance"));
  const std::lock_guard lock(mutex);
  instances[KeyOf(*instance)] = functions;
  return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL DestroyInstance(VkInstance instance,
                                           const VkAllocationCallbacks* callbacks) {
  if (instance == VK_NULL_HANDLE) return;
  const PFN_vkDestroyInstance destroy = InstanceOf(instance).destroy;
  {
    const std::lock_guard lock(mutex);
    instances.erase(KeyOf(instance));
  }
  destroy(instance, callbacks);
}

VKAPI_ATTR VkResult VKAPI_CALL CreateDevice(VkPhysicalDevice physical,
                                            const VkDeviceCreateInfo* info,
                                            const VkAllocationCallbacks* callbacks,
                                            VkDevice* device) {
  auto* link = const_cast<VkLayerDeviceCreateInfo*>(
      Find<VkLayerDeviceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO));
  while (link != nullptr && link->function != VK_LAYER_LINK_INFO) {
    link = const_cast<VkLayerDeviceCreateInfo*>(
        Find<VkLayerDeviceCreateInfo>(link->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO));
  }
  if (link == nullptr) return VK_ERROR_INITIALIZATION_FAILED;
  const PFN_vkGetInstanceProcAddr next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  const PFN_vkGetDeviceProcAddr next = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create =
      reinterpret_cast<PFN_vkCreateDevice>(next_instance(VK_NULL_HANDLE, "vkCreateDevice"));
  const VkResult result = create(physical, info, callbacks, device);
  if (result != VK_SUCCESS) return result;
  DeviceFunctions functions;
  functions.next = next;
  functions.destroy = reinterpret_cast<PFN_vkDestroyDevice>(next(*device, "vkDestroyDevice"));
  functions.allocate = reinterpret_cast<PFN_vkAllocateMemory>(next(*device, "vkAllocateMemory"));
  functions.free = reinterpret_cast<PFN_vkFreeMemory>(next(*device, "vkFreeMemory"));
  functions.map = reinterpret_cast<PFN_vkMapMemory>(next(*device, "vkMapMemory"));
  functions.fd_properties =
      reinterpret_cast<PFN_vkGetMemoryFdPropertiesKHR>(next(*device, "vkGetMemoryFdPropertiesKHR"));
  const std::lock_guard lock(mutex);
  devices[KeyOf(*device)] = functions;
  return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL DestroyDevice(VkDevice device, const VkAllocationCallbacks* callbacks) {
  if (device == VK_NULL_HANDLE) return;
  const PFN_vkDestroyDevice destroy = DeviceOf(device).destroy;
  {
    const std::lock_guard lock(mutex);
    devices.erase(KeyOf(device));
  }
  destroy(device, callbacks);
}

template <typename Function>
PFN_vkVoidFunction AsVoid(Function function) {
  return reinterpret_cast<PFN_vkVoidFunction>(function);
}

PFN_vkVoidFunction DeviceFunction(const char* name) {
  if (std::strcmp(name, "vkDestroyDevice") == 0) return AsVoid(&DestroyDevice);
  if (std::strcmp(name, "vkAllocateMemory") == 0) return AsVoid(&AllocateMemory);
  if (std::strcmp(name, "vkFreeMemory") == 0) return AsVoid(&FreeMemory);
  if (std::strcmp(name, "vkMapMemory") == 0) return AsVoid(&MapMemory);
  if (std::strcmp(name, "vkGetMemoryFdPropertiesKHR") == 0)
    return AsVoid(&GetMemoryFdPropertiesKHR);
  return nullptr;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL GetDeviceProcAddr(VkDevice device, const char* name) {
  if (std::strcmp(name, "vkGetDeviceProcAddr") == 0) return AsVoid(&GetDeviceProcAddr);
  if (const PFN_vkVoidFunction ours = DeviceFunction(name); ours != nullptr) return ours;
  return DeviceOf(device).next(device, name);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL GetInstanceProcAddr(VkInstance instance,
                                                             const char* name) {
  if (std::strcmp(name, "vkGetInstanceProcAddr") == 0) return AsVoid(&GetInstanceProcAddr);
  if (std::strcmp(name, "vkCreateInstance") == 0) return AsVoid(&CreateInstance);
  if (std::strcmp(name, "vkDestroyInstance") == 0) return AsVoid(&DestroyInstance);
  if (std::strcmp(name, "vkCreateDevice") == 0) return AsVoid(&CreateDevice);
  if (std::strcmp(name, "vkGetDeviceProcAddr") == 0) return AsVoid(&GetDeviceProcAddr);
  if (const PFN_vkVoidFunction ours = DeviceFunction(name); ours != nullptr) return ours;
  return instance == VK_NULL_HANDLE ? nullptr : InstanceOf(instance).next(instance, name);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) VkResult vkNegotiateLoaderLayerInterfaceVersion(
    VkNegotiateLayerInterface* negotiated) {
  if (negotiated->loaderLayerInterfaceVersion < 2) return VK_ERROR_INITIALIZATION_FAILED;
  negotiated->loaderLayerInterfaceVersion = 2;
  negotiated->pfnGetInstanceProcAddr = &GetInstanceProcAddr;
  negotiated->pfnGetDeviceProcAddr = &GetDeviceProcAddr;
  negotiated->pfnGetPhysicalDeviceProcAddr = nullptr;
  return VK_SUCCESS;
}
