#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "lib/base/kept_file.h"

namespace tandem::vulkan {

// Of a device and its driver's version, for names of files: hexadecimal digits.
std::string CacheName(const PhysicalDevice& device);

// Compiled pipelines of one device and driver, kept in the user's cache from start to start. The
// file: 8 bytes of name and version, the length and the checksum of what follows (8 bytes each,
// little-endian), and what vkGetPipelineCacheData gave, whose own header names device and driver.

class PipelineCacheFile {
 public:
  // Of a device, in `folder`, which need not exist; without a folder nothing is kept.
  PipelineCacheFile(const std::string& folder, const PhysicalDevice& device);

  // What was kept; empty where there is nothing yet. FAILED_PRECONDITION where the file is not this
  // user's alone, DATA_LOSS where it is not what was written: then the caller starts anew.
  absl::StatusOr<std::vector<std::byte>> Load() const;
  // In place of what was there, at once or not at all: others that start meanwhile read the old or
  // the new file. Makes the folder.
  absl::Status Store(std::span<const std::byte> data) const;
  const std::string& path() const { return file_.path(); }

 private:
  const PhysicalDevice& device_;
  const KeptFile file_;
};

// Of the file's bytes what is behind the file's header. DATA_LOSS says what is wrong with them.
absl::StatusOr<std::span<const std::byte>> ReadPipelineCache(std::span<const std::byte> file,
                                                             const PhysicalDevice& device);
std::vector<std::byte> WritePipelineCache(std::span<const std::byte> data);

}  // namespace tandem::vulkan
