#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/device/device.h"
#include "lib/worker/edge_control.h"

namespace tandem {

// What one worker knows of one edge: a ring of residual slots from the worker `from` to the
// worker `to`.
struct EdgeEndSpec {
  std::string id;  // "npu0>gpu0"
  std::string from;
  std::string to;
  EdgeEnd end = EdgeEnd::kProducer;  // which end this worker is
  bool owner = false;                // this worker allocates the memory
  std::string owner_fd_socket;
  std::string consumer_address;   // gRPC, for inline edges
  std::vector<HandleKind> kinds;  // allowed, in the order in which they are tried; not empty
  std::uint64_t generation = 0;
  ResidualLayout layout;
};

// A connected end of an edge. Stages bind `residual`; the step loop waits and publishes through
// `control`. Between two processes of one host `residual` is the same memory at both ends (equal
// `identity`); an inline edge has a ring at each end.
struct Edge {
  EdgeEndSpec spec;
  HandleKind kind = HandleKind::kInline;
  FileIdentity identity;
  std::unique_ptr<ResidualBuffer> residual;
  std::unique_ptr<EdgeControl> control;
  UniqueFd peer;  // the handshake's socket: its end of file tells that the other process died
  // The threads that carry an inline edge's rows; their end stops them. Goes first.
  std::shared_ptr<void> carrier;
};

// A ring that this process allocated, as its device sees it.
struct ResidualRing {
  // Invalid descriptor, no mapping: the device made the memory by itself.
  SharedMemory memory;
  // What the other end imports.
  UniqueFd fd;
  FileIdentity identity;
  std::unique_ptr<ResidualBuffer> residual;
  // As the processor sees it, while `memory` and `residual` live; perhaps empty.
  std::span<std::byte> view() const;
};
// Memory for another process to import: for kHostPointer a sealed memfd; for kDmaBuf a dma-buf of
// the system's making where there is one of this size (processors read it at full speed), else the
// device's own.
absl::StatusOr<ResidualRing> MakeRing(Device& device, HandleKind kind, const EdgeEndSpec& spec);
// A ring of this process alone with a view, by whatever the device has.
absl::StatusOr<ResidualRing> MakeLocalRing(Device& device, const EdgeEndSpec& spec);

// The same descriptor once more, close-on-exec.
absl::StatusOr<UniqueFd> Duplicate(int fd);

}  // namespace tandem
