#include "lib/worker/edge.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/dma_buf.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// The system's memory, imported into the device.
absl::StatusOr<ResidualRing> FromSystem(Device& device, HandleKind kind, SharedMemory memory,
                                        const ResidualLayout& layout) {
  ResidualRing ring;
  ring.identity = memory.identity;
  TANDEM_ASSIGN_OR_RETURN(UniqueFd copy, Duplicate(memory.fd.get()));
  TANDEM_ASSIGN_OR_RETURN(ring.residual, device.ImportResidual(kind, std::move(copy), layout));
  ring.fd = std::move(memory.fd);
  ring.memory = std::move(memory);
  return ring;
}

absl::StatusOr<ResidualRing> MakeDmaBufRing(Device& device, const EdgeEndSpec& spec) {
  const std::uint64_t bytes = spec.layout.total_bytes();
  absl::Status by_system = absl::UnimplementedError("the device imports no dma-buf of this size");
  if (device.memory().dma_buf.import_bytes >= bytes) {
    absl::StatusOr<SharedMemory> memory =
        AllocateDmaBuf(absl::StrCat("tandem-edge-", spec.id), bytes);
    by_system = memory.status();
    if (memory.ok()) {
      absl::StatusOr<ResidualRing> ring =
          FromSystem(device, HandleKind::kDmaBuf, *std::move(memory), spec.layout);
      if (ring.ok()) return ring;
      by_system = ring.status();
    }
  }
  ResidualRing ring;
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> own =
      device.ExportResidual(HandleKind::kDmaBuf, spec.layout, &ring.fd);
  if (!own.ok())
    return absl::Status(own.status().code(), absl::StrCat(std::string(own.status().message()), "; ",
                                                          std::string(by_system.message())));
  if (!IsDmaBuf(ring.fd.get()))
    return absl::InternalError("expected the device to export a dma-buf, found another file");
  ring.residual = *std::move(own);
  TANDEM_ASSIGN_OR_RETURN(ring.identity, IdentityOf(ring.fd.get()));
  return ring;
}

}  // namespace

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return absl::ErrnoToStatus(errno, "duplicating a descriptor");
  return copy;
}

std::span<std::byte> ResidualRing::view() const {
  if (memory.mapping.data() != nullptr) return {memory.mapping.data(), memory.mapping.size()};
  return residual == nullptr ? std::span<std::byte>() : residual->host_view();
}

absl::StatusOr<ResidualRing> MakeRing(Device& device, HandleKind kind, const EdgeEndSpec& spec) {
  if (kind == HandleKind::kDmaBuf) return MakeDmaBufRing(device, spec);
  TANDEM_CHECK(kind == HandleKind::kHostPointer);
  TANDEM_ASSIGN_OR_RETURN(
      SharedMemory memory,
      SharedMemory::Create(absl::StrCat("tandem-edge-", spec.id), spec.layout.total_bytes()));
  TANDEM_RETURN_IF_ERROR(SealSize(memory.fd.get()));
  return FromSystem(device, kind, std::move(memory), spec.layout);
}

absl::StatusOr<ResidualRing> MakeLocalRing(Device& device, const EdgeEndSpec& spec) {
  const bool by_pointer = device.memory().host_pointer.import_bytes >= spec.layout.total_bytes();
  TANDEM_ASSIGN_OR_RETURN(
      ResidualRing ring,
      MakeRing(device, by_pointer ? HandleKind::kHostPointer : HandleKind::kDmaBuf, spec));
  if (ring.view().size() >= spec.layout.total_bytes()) return ring;
  return absl::UnimplementedError(absl::StrCat(
      "device '", device.info().name, "' shows the processor nothing of its residual buffers"));
}

}  // namespace tandem
