#include "gpu-worker/vulkan/pipeline_cache.h"

#include <cstring>

#include "lib/base/checksum.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

constexpr char kMagic[] = "TNDMPLC1";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeaderBytes = kMagicBytes + 2 * sizeof(std::uint64_t);
// Of VkPipelineCacheHeaderVersionOne.
constexpr std::size_t kDriverHeaderBytes = 16 + VK_UUID_SIZE;
// Far more than all kernels take.
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

template <typename T>
T Read(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

}  // namespace

std::string CacheName(const PhysicalDevice& device) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  for (const std::uint8_t byte : device.cache_uuid) {
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  return name;
}

absl::StatusOr<std::span<const std::byte>> ReadPipelineCache(std::span<const std::byte> file,
                                                             const PhysicalDevice& device) {
  if (file.size() < kHeaderBytes + kDriverHeaderBytes ||
      std::memcmp(file.data(), kMagic, kMagicBytes) != 0) {
    return absl::DataLossError("no kept pipelines of this version");
  }
  const std::span<const std::byte> data = file.subspan(kHeaderBytes);
  const auto bytes = Read<std::uint64_t>(file, kMagicBytes);
  if (bytes != data.size()) {
    return absl::DataLossError(Cat("expected ", bytes, " bytes, found ", data.size()));
  }
  if (Read<std::uint64_t>(file, kMagicBytes + sizeof(std::uint64_t)) != Checksum(data)) {
    return absl::DataLossError("the checksum is wrong");
  }
  if (Read<std::uint32_t>(data, 0) < kDriverHeaderBytes ||
      Read<std::uint32_t>(data, 4) != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
      Read<std::uint32_t>(data, 8) != device.vendor_id ||
      Read<std::uint32_t>(data, 12) != device.device_id ||
      std::memcmp(data.data() + 16, device.cache_uuid.data(), VK_UUID_SIZE) != 0) {
    return absl::DataLossError("it is of another device or driver");
  }
  return data;
}

std::vector<std::byte> WritePipelineCache(std::span<const std::byte> data) {
  std::vector<std::byte> file(kHeaderBytes + data.size());
  const std::uint64_t numbers[] = {data.size(), Checksum(data)};
  std::memcpy(file.data(), kMagic, kMagicBytes);
  std::memcpy(file.data() + kMagicBytes, numbers, sizeof(numbers));
  if (!data.empty()) std::memcpy(file.data() + kHeaderBytes, data.data(), data.size());
  return file;
}

PipelineCacheFile::PipelineCacheFile(const std::string& folder, const PhysicalDevice& device)
    : device_(device), file_(folder, Cat("pipelines-", CacheName(device)), kMostBytes) {}

absl::StatusOr<std::vector<std::byte>> PipelineCacheFile::Load() const {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, file_.Load());
  if (bytes.empty()) return bytes;
  const absl::StatusOr<std::span<const std::byte>> data = ReadPipelineCache(bytes, device_);
  if (!data.ok()) return Annotate(data.status(), file_.path());
  return std::vector<std::byte>(data->begin(), data->end());
}

absl::Status PipelineCacheFile::Store(std::span<const std::byte> data) const {
  return file_.Store(WritePipelineCache(data));
}

}  // namespace tandem::vulkan
