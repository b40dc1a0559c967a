#include "gpu-worker/vulkan/instance.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <utility>
#include <vector>

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"

namespace tandem::vulkan {
namespace {

constexpr char kValidationLayer[] = "VK_LAYER_KHRONOS_validation";

absl::StatusOr<bool> HasLayer(const char* name) {
  std::uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkEnumerateInstanceLayerProperties(&count, nullptr), "listing Vulkan layers"));
  std::vector<VkLayerProperties> layers(count);
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkEnumerateInstanceLayerProperties(&count, layers.data()), "listing Vulkan layers"));
  for (const VkLayerProperties& layer : layers) {
    if (std::strcmp(layer.layerName, name) == 0) return true;
  }
  return false;
}

template <typename Function>
Function Load(VkInstance instance, const char* name) {
  return reinterpret_cast<Function>(vkGetInstanceProcAddr(instance, name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Instance>> Instance::Create(bool validation,
                                                           MessageHandler on_message) {
  auto app = Structure<VkApplicationInfo>(VK_STRUCTURE_TYPE_APPLICATION_INFO);
  app.pApplicationName = "tandem";
  app.apiVersion = VK_API_VERSION_1_2;
  auto info = Structure<VkInstanceCreateInfo>(VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO);
  info.pApplicationInfo = &app;
  const char* const layers[] = {kValidationLayer};
  const char* const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
  if (validation) {
    TANDEM_ASSIGN_OR_RETURN(const bool found, HasLayer(kValidationLayer));
    if (!found) {
      return absl::FailedPreconditionError(
          "Vulkan validation was asked for, but VK_LAYER_KHRONOS_validation is not installed "
          "(Debian: vulkan-validationlayers)");
    }
    info.enabledLayerCount = 1;
    info.ppEnabledLayerNames = layers;
    info.enabledExtensionCount = 1;
    info.ppEnabledExtensionNames = extensions;
  }
  auto instance = std::unique_ptr<Instance>(new Instance(std::move(on_message)));
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateInstance(&info, nullptr, &instance->instance_),
                                  "creating a Vulkan 1.2 instance"));
  if (validation) TANDEM_RETURN_IF_ERROR(instance->CreateMessenger());
  return instance;
}

absl::Status Instance::CreateMessenger() {
  auto info = Structure<VkDebugUtilsMessengerCreateInfoEXT>(
      VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT);
  info.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                         VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  info.pfnUserCallback = &Instance::OnMessage;
  info.pUserData = this;
  const auto create =
      Load<PFN_vkCreateDebugUtilsMessengerEXT>(instance_, "vkCreateDebugUtilsMessengerEXT");
  if (create == nullptr) {
    return absl::FailedPreconditionError("Vulkan validation needs VK_EXT_debug_utils");
  }
  return ToStatus(create(instance_, &info, nullptr, &messenger_),
                  "creating the validation messenger");
}

VkBool32 Instance::OnMessage(VkDebugUtilsMessageSeverityFlagBitsEXT,
                             VkDebugUtilsMessageTypeFlagsEXT,
                             const VkDebugUtilsMessengerCallbackDataEXT* data, void* self) {
  const MessageHandler& handler = static_cast<Instance*>(self)->on_message_;
  if (handler) {
    handler(data->pMessage);
  } else {
    spdlog::error("Vulkan validation: {}", data->pMessage);
  }
  return VK_FALSE;
}

Instance::~Instance() {
  if (messenger_ != VK_NULL_HANDLE) {
    Load<PFN_vkDestroyDebugUtilsMessengerEXT>(instance_, "vkDestroyDebugUtilsMessengerEXT")(
        instance_, messenger_, nullptr);
  }
  if (instance_ != VK_NULL_HANDLE) vkDestroyInstance(instance_, nullptr);
}

}  // namespace tandem::vulkan
