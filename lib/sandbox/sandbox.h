#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace tandem {

// What a process does, and so what it may go on asking the kernel for. docs/security.md has the
// lists and the reasons.
enum class SandboxKind : std::uint8_t {
  // Sockets and files; no programs, no other processes, no devices.
  kGateway,
  // The same and /dev/udmabuf.
  kLoader,
  // A worker whose device is the processor.
  kCpuWorker,
  // A worker with a driver in it, which asks for whatever it needs: all but what no driver needs.
  kDriverWorker,
};

// From now on, for all threads and for good: no new privileges, and of the kernel's calls only
// those that the kind needs. Others fail with EPERM (those that would lead out of the process) or
// ENOSYS (those that nobody asked for so far). Nor may others of the same user read its memory, or
// see its descriptors in /proc. FAILED_PRECONDITION where the kernel has no seccomp filters. In
// builds with sanitizers it does nothing: they need more calls than any process here.
absl::Status EnterSandbox(SandboxKind kind);

}  // namespace tandem
