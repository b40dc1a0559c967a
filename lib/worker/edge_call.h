#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"
#include "lib/model/kinds.h"

namespace tandem {

// What an importer says first, checked.
struct EdgeCall {
  std::string id;
  std::uint64_t generation = 0;
  ResidualLayout layout;
  std::vector<HandleKind> kinds;  // allowed, in order
};
std::string EncodeEdgeCall(const EdgeCall& call);
// INVALID_ARGUMENT says what was expected.
absl::StatusOr<EdgeCall> ParseEdgeCall(std::string_view bytes);

}  // namespace tandem
