#include "lib/worker/edge.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return absl::ErrnoToStatus(errno, "duplicating a descriptor");
  return copy;
}

absl::StatusOr<ResidualRing> MakeHostRing(Device& device, const EdgeEndSpec& spec) {
  TANDEM_ASSIGN_OR_RETURN(
      SharedMemory memory,
      SharedMemory::Create(absl::StrCat("tandem-edge-", spec.id), spec.layout.total_bytes()));
  TANDEM_RETURN_IF_ERROR(SealSize(memory.fd.get()));
  ResidualRing ring;
  TANDEM_ASSIGN_OR_RETURN(ring.identity, IdentityOf(memory.fd.get()));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd copy, Duplicate(memory.fd.get()));
  TANDEM_ASSIGN_OR_RETURN(
      ring.residual, device.ImportResidual(HandleKind::kHostPointer, std::move(copy), spec.layout));
  ring.fd = std::move(memory.fd);
  return ring;
}

}  // namespace tandem
