#pragma once

#include <vulkan/vulkan.h>

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

namespace tandem::vulkan {

using MessageHandler = std::function<void(std::string_view)>;

// Owns a VkInstance of Vulkan 1.2 and, with `validation`, the debug messenger.
class Instance {
 public:
  // FAILED_PRECONDITION when validation is asked for and VK_LAYER_KHRONOS_validation is not
  // installed. `on_message` gets warnings and errors, from any thread; null sends them to the log.
  static absl::StatusOr<std::unique_ptr<Instance>> Create(bool validation,
                                                          MessageHandler on_message);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  VkInstance handle() const { return instance_; }

 private:
  explicit Instance(MessageHandler on_message) : on_message_(std::move(on_message)) {}
  absl::Status CreateMessenger();
  static VKAPI_ATTR VkBool32 VKAPI_CALL OnMessage(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                  VkDebugUtilsMessageTypeFlagsEXT type,
                                                  const VkDebugUtilsMessengerCallbackDataEXT* data,
                                                  void* self);

  MessageHandler on_message_;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
