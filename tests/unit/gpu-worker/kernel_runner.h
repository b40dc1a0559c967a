#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem {

using Bytes = std::vector<std::byte>;

template <typename T>
Bytes ToBytes(std::span<const T> values) {
  Bytes bytes(values.size_bytes());
  std::memcpy(bytes.data(), values.data(), values.size_bytes());
  return bytes;
}
template <typename T>
Bytes ToBytes(const std::vector<T>& values) {
  return ToBytes(std::span<const T>(values));
}
template <typename T>
std::vector<T> FromBytes(const Bytes& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// Runs single kernels on the device that is there, with validation wherever the layer is installed.
// One thread.
class KernelRunner {
 public:
  static absl::StatusOr<std::unique_ptr<KernelRunner>> Create();

  // Fills buffers with the bindings, runs the kernel once and brings them back. Empty bindings are
  // not allowed.
  absl::Status Run(std::string_view kernel, const std::vector<std::uint32_t>& constants,
                   std::span<const std::byte> push, vulkan::Groups groups,
                   std::vector<Bytes>* bindings);

  const vulkan::LogicalDevice& device() const { return *device_; }
  // Those that came since the last call.
  std::vector<std::string> TakeValidationMessages() { return std::exchange(messages_, {}); }

 private:
  KernelRunner() = default;

  std::vector<std::string> messages_;
  std::unique_ptr<vulkan::Instance> instance_;
  std::unique_ptr<vulkan::LogicalDevice> device_;
  std::unique_ptr<PipelineLibrary> pipelines_;
};

// A step as kernels see it, binding 0.
struct TestStep {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> sequences;
  std::vector<std::int32_t> logit_rows;
  std::vector<float> inverse_temperatures;
  std::vector<std::int32_t> tiles;   // pairs of first token and count
  std::vector<std::int32_t> blocks;  // tables of blocks_per_table entries, in both groups
  std::uint32_t blocks_per_table = 1;
  std::uint32_t input_base = 0;
  std::uint32_t output_base = 0;

  Bytes Pack() const;
};

}  // namespace tandem
