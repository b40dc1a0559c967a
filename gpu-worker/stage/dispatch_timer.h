#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
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
    double seconds = 0;  // from the end of what was marked before to its own end
  };
  // What a command buffer did when it ran last.
  struct Run {
    // On the device's clock.
    double begin = 0;
    double end = 0;
    std::vector<Entry> entries;
  };
  using Wants = std::function<bool(const std::string& name)>;

  DispatchTimer() = default;
  // Marks only ends of ops whose names are wanted.
  explicit DispatchTimer(Wants wants) : wants_(std::move(wants)) {}

  // The recorder's side: at the start of a command buffer, and behind each of its dispatches. A
  // command buffer for which no room is left is not timed.
  absl::Status Begin(const vulkan::LogicalDevice& device, vulkan::CommandBuffer& commands,
                     std::uint32_t dispatches);
  void Mark(vulkan::CommandBuffer& commands, const std::string& name);

  // Of the command buffer that ended last. All work is done.
  absl::StatusOr<std::vector<Entry>> Last() const;
  // The `count` command buffers that ended last, in the order in which they ran.
  absl::StatusOr<std::vector<Run>> Latest(std::size_t count) const;

 private:
  struct Recording {
    std::uint32_t first = 0;
    std::vector<std::string> names;
  };
  const Wants wants_ = [](const std::string&) { return true; };
  vulkan::Timestamps timestamps_;
  bool made_ = false;
  bool open_ = false;
  std::uint32_t used_ = 0;
  std::vector<Recording> recordings_;
};

}  // namespace tandem
