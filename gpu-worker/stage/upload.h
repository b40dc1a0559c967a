#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "absl/status/status.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/thread_pool.h"

namespace tandem {

// Copies host bytes into buffers of the device's own, for weights: several threads fill one piece
// of staging memory while the device copies others, in its queue for transfers where it has one, so
// that what computes meanwhile is not held up. Any thread; one upload at a time.
class Uploader {
 public:
  explicit Uploader(vulkan::LogicalDevice& device) : device_(device) {}

  vulkan::LogicalDevice& device() const { return device_; }
  // Returns when the bytes are there. Allocates and records.
  absl::Status Upload(std::span<const std::byte> bytes, const vulkan::Buffer& to);
  // Gives back staging memory and threads, until the next upload.
  void Release();

 private:
  static constexpr std::size_t kPieces = 4;
  struct Piece {
    std::uint64_t offset = 0;  // in the staging memory
    // The timeline's value when the device has read it.
    std::uint64_t read_at = 0;
  };
  absl::Status Prepare();
  absl::Status Send(const Piece& piece, std::uint64_t bytes, const vulkan::Buffer& to,
                    std::uint64_t at);

  vulkan::LogicalDevice& device_;
  std::mutex mutex_;
  // All guarded by mutex_.
  std::unique_ptr<ThreadPool> threads_;
  std::uint64_t piece_bytes_ = 0;
  vulkan::Buffer staging_;
  vulkan::CommandPool commands_;
  vulkan::Timeline timeline_;
  std::array<Piece, kPieces> pieces_;
  std::uint64_t sent_ = 0;  // the timeline's value of the last copy
};

}  // namespace tandem
