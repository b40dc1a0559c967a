#include "gpu-worker/stage/vulkan_residual.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "lib/base/dma_buf.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr char kWhat[] = "residual buffer";

absl::Status CheckLayout(const vulkan::LogicalDevice& device, const ResidualLayout& layout) {
  const auto rows = static_cast<std::uint64_t>(layout.max_tokens);
  const auto hidden = static_cast<std::uint64_t>(layout.columns);
  if (layout.slots < 1 || layout.max_tokens < 1 || layout.columns < 1 ||
      layout.slot_bytes < rows * hidden * sizeof(float) || layout.slot_bytes % PageSize() != 0) {
    return absl::InvalidArgumentError(
        Cat(kWhat, ": expected whole pages for every slot, found ", layout.slots, " slots of ",
            layout.max_tokens, " x ", layout.columns, " floats in ", layout.slot_bytes, " bytes"));
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
  const MemoryKind expected =
      kind == HandleKind::kDmaBuf ? MemoryKind::kDmaBuf : MemoryKind::kMemfd;
  if (expected == MemoryKind::kDmaBuf && !device.physical().dma_buf_import)
    return Unknown(device, "import", kind);
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                          SharedMemory::Take(std::move(fd), layout.total_bytes()));
  if (memory.kind != expected) {
    // Some drivers would take one for the other.
    return absl::InvalidArgumentError(Cat(kWhat, ": expected a ", MemoryKindName(expected),
                                          ", found a ", MemoryKindName(memory.kind)));
  }
  if (expected == MemoryKind::kDmaBuf) {
    TANDEM_ASSIGN_OR_RETURN(
        residual->buffer_,
        vulkan::Buffer::ImportDmaBuf(device, std::move(memory.fd), layout.total_bytes(), kWhat));
    return residual;
  }
  TANDEM_ASSIGN_OR_RETURN(residual->mapping_, Mapping::Map(memory.fd.get(), layout.total_bytes(),
                                                           /*writable=*/true));
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

MemoryDeclaration DeclareVulkanMemory(const vulkan::LogicalDevice& device) {
  const vulkan::PhysicalDevice& physical = device.physical();
  const std::uint64_t most =
      std::min<std::uint64_t>(physical.max_allocation_bytes, physical.limits.maxStorageBufferRange);
  const ResidualLayout page = MakeResidualLayout(1, 1, 32);
  const auto tried = [&](HandleKind kind, absl::StatusOr<SharedMemory> memory) {
    if (!memory.ok()) return memory.status();
    return VulkanResidual::Import(device, kind, std::move(memory->fd), page).status();
  };
  MemoryDeclaration declared;
  absl::StatusOr<SharedMemory> memfd = SharedMemory::Create("tandem-trial", page.total_bytes());
  if (memfd.ok() && SealSize(memfd->fd.get()).ok() &&
      tried(HandleKind::kHostPointer, std::move(memfd)).ok()) {
    declared.host_pointer = {most, most};
  }
  const std::uint64_t system = LargestDmaBuf();
  if (physical.dma_buf_import &&
      (system == 0 ||
       tried(HandleKind::kDmaBuf, AllocateDmaBuf("tandem-trial", page.total_bytes())).ok())) {
    declared.dma_buf.import_bytes = most;
    declared.dma_buf.export_bytes = std::min(most, system);
  }
  UniqueFd own;
  if (physical.dma_buf_export &&
      VulkanResidual::Export(device, HandleKind::kDmaBuf, page, &own).ok() && IsDmaBuf(own.get())) {
    declared.dma_buf.export_bytes = most;
  }
  declared.host_view = declared.dma_buf.export_bytes != 0;
  return declared;
}

}  // namespace tandem
