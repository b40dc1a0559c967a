#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/memory/memory_declaration.h"
#include "lib/model/kinds.h"

namespace tandem {

// Who allocates an edge's memory, and the kinds that work with that owner: the first is taken
// unless a driver refuses it after all.
struct EdgeAgreement {
  bool producer_owns = true;
  std::vector<HandleKind> kinds;
  bool operator==(const EdgeAgreement&) const = default;
};

struct EdgeQuestion {
  MemoryDeclaration producer;
  MemoryDeclaration consumer;
  // Memory is shared within one host only.
  bool same_host = true;
  // Of the whole ring.
  std::uint64_t ring_bytes = 0;
  // Kinds that may be used, best first.
  std::vector<HandleKind> allowed;
};

// Kind and owner of an edge follow from what both ends declare, and from nothing else. The best
// allowed kind that works decides the owner: an end that must own, else the producer where it can
// make that memory, else the consumer. FAILED_PRECONDITION where no kind is left.
absl::StatusOr<EdgeAgreement> AgreeOnEdge(const EdgeQuestion& question);

// "dma-buf (imports, exports up to 64 MiB), inline": for errors and status.
std::string DeclarationText(const MemoryDeclaration& declaration);

}  // namespace tandem
