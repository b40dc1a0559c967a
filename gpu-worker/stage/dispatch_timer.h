#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/timestamps.h"

namespace tandem {

// Times every dispatch of what is recorded while a device has such a timer: for benchmarks, since
// the timestamps themselves cost about a microsecond each and keep dispatches apart. One thread;
// outlives the programs that it times.
class DispatchTimer {
 public:
  struct Entry {
    std::string name;    // of the op
    double seconds = 0;  // from the end of what came before to its own end
  };

  // The recorder's side: at the start of a command buffer, and behind each of its dispatches. A
  // command buffer for which no room is left is not timed.
  absl::Status Begin(const vulkan::LogicalDevice& device, vulkan::CommandBuffer& commands,
                     std::uint32_t dispatches);
  void Mark(vulkan::CommandBuffer& commands, const std::string& name);

  // Of the command buffer that ended last. All work is done.
  absl::StatusOr<std::vector<Entry>> Last() const;

 private:
  struct Recording {
    std::uint32_t first = 0;
    std::vector<std::string> names;
  };
  vulkan::Timestamps timestamps_;
  bool made_ = false;
  bool open_ = false;
  std::uint32_t used_ = 0;
  std::vector<Recording> recordings_;
};

}  // namespace tandem
