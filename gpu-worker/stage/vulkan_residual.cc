#include "gpu-worker/stage/vulkan_residual.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr char kWhat[] = "residual buffer";

absl::Status CheckLayout(const vulkan::LogicalDevice& device, const ResidualLayout& layout) {
  const auto rows = static_cast<std::uint64_t>(layout.max_tokens);
  const auto hidden = static_cast<std::uint64_t>(layout.hidden_size);
  if (layout.slots < 1 || layout.max_tokens < 1 || layout.hidden_size < 1 ||
      layout.slot_bytes < rows * hidden * sizeof(float) || layout.slot_bytes % PageSize() != 0) {
    return absl::InvalidArgumentError(Cat(
        kWhat, ": expected whole pages for every slot, found ", layout.slots, " slots of ",
        layout.max_tokens, " x ", layout.hidden_size, " floats in ", layout.slot_bytes, " bytes"));
  }
  const std::uint64_t most = device.physical().limits.maxStorageBufferRange;
  if (layout.total_bytes() > most) {
    return absl::UnimplementedError(Cat(kWhat, ": ", layout.total_bytes(),
                                        " bytes, the device binds at most ", most, " at once"));
  }
  return absl::OkStatus();
}

absl::Status Unknown(const vulkan::LogicalDevice& device, std::string_view verb, HandleKind kind) {
  return absl::UnimplementedError(Cat("Vulkan device \"", device.physical().name, "\" cannot ",
                                      verb, " a ", kWhat, " by ", NameOf(kind)));
}

// A dma-buf knows its size and keeps it. Some drivers take a memfd for one: that must be sealed.
absl::Status CheckDmaBuf(int fd, std::uint64_t bytes) {
  if (fcntl(fd, F_GET_SEALS) >= 0) return CheckSealedSize(fd, bytes);
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0 || static_cast<std::uint64_t>(size) < bytes) {
    return absl::InvalidArgumentError(
        Cat(kWhat, ": expected a dma-buf of at least ", bytes, " bytes, found ", size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<VulkanResidual>> VulkanResidual::Create(
    const vulkan::LogicalDevice& device, const ResidualLayout& layout) {
  TANDEM_RETURN_IF_ERROR(CheckLayout(device, layout));
  auto residual = std::unique_ptr<VulkanResidual>(new VulkanResidual(layout, false));
  TANDEM_ASSIGN_OR_RETURN(
      residual->buffer_,
      vulkan::Buffer::Create(device, layout.total_bytes(), vulkan::Placement::kDevice, kWhat));
  return residual;
}

absl::StatusOr<std::unique_ptr<VulkanResidual>> VulkanResidual::Import(
    const vulkan::LogicalDevice& device, HandleKind kind, UniqueFd fd,
    const ResidualLayout& layout) {
  if (kind == HandleKind::kInline) return Unknown(device, "import", kind);
  TANDEM_RETURN_IF_ERROR(CheckLayout(device, layout));
  auto residual =
      std::unique_ptr<VulkanResidual>(new VulkanResidual(layout, kind == HandleKind::kDmaBuf));
  if (kind == HandleKind::kDmaBuf) {
    if (!device.physical().dma_buf_import) return Unknown(device, "import", kind);
    TANDEM_RETURN_IF_ERROR(CheckDmaBuf(fd.get(), layout.total_bytes()));
    TANDEM_ASSIGN_OR_RETURN(
        residual->buffer_,
        vulkan::Buffer::ImportDmaBuf(device, std::move(fd), layout.total_bytes(), kWhat));
    return residual;
  }
  TANDEM_RETURN_IF_ERROR(CheckSealedSize(fd.get(), layout.total_bytes()));
  TANDEM_ASSIGN_OR_RETURN(residual->mapping_,
                          Mapping::Map(fd.get(), layout.total_bytes(), /*writable=*/true));
  TANDEM_ASSIGN_OR_RETURN(
      residual->buffer_,
      vulkan::Buffer::ImportHost(device, residual->mapping_.data(), layout.total_bytes(), kWhat));
  return residual;
}

absl::StatusOr<std::unique_ptr<VulkanResidual>> VulkanResidual::Export(
    const vulkan::LogicalDevice& device, HandleKind kind, const ResidualLayout& layout,
    UniqueFd* fd) {
  if (kind != HandleKind::kDmaBuf) return Unknown(device, "export", kind);
  TANDEM_RETURN_IF_ERROR(CheckLayout(device, layout));
  auto residual = std::unique_ptr<VulkanResidual>(new VulkanResidual(layout, true));
  TANDEM_ASSIGN_OR_RETURN(residual->buffer_,
                          vulkan::Buffer::ExportDmaBuf(device, layout.total_bytes(), kWhat, fd));
  return residual;
}

}  // namespace tandem
