// A file of kept pipelines: any bytes give what is behind the header, or an error. Half of the
// inputs get a header that fits, so that what follows is looked at.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gpu-worker/vulkan/pipeline_cache.h"
#include "lib/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const tandem::vulkan::PhysicalDevice device;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  const bool headed = size % 2 == 0;
  const std::vector<std::byte> file = headed ? tandem::vulkan::WritePipelineCache(bytes)
                                             : std::vector<std::byte>(bytes.begin(), bytes.end());
  const auto read = tandem::vulkan::ReadPipelineCache(file, device);
  if (read.ok()) {
    TANDEM_CHECK(read->data() >= file.data() && read->size() < file.size());
  } else {
    TANDEM_CHECK(absl::IsDataLoss(read.status()));
  }
  return 0;
}
