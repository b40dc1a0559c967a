#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// Deeper than any file that a model brings; far from what the recursion of nlohmann's dump() takes.
inline constexpr int kMaxJsonDepth = 64;

// The JSON value that `text` (any bytes, from outside) holds. InvalidArgument, of one line, for
// nesting deeper than `max_depth` levels and for text that is no JSON, both with the byte; never
// with what stands there. The depth is checked before anything is built.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, int max_depth = kMaxJsonDepth);

}  // namespace tandem
