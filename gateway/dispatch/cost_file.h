#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/step_model.h"

namespace tandem {

// What was measured, as it is kept in the user's cache from start to start: from outside when it is
// read. `key` names all that the times depend on. DATA_LOSS where the text is anything else than
// times under this key.

// Times of the stages, and what a step takes beside them where that was measured; nothing else of a
// worker.
std::string WriteCosts(std::string_view key, const WorkerCosts& costs);
absl::StatusOr<WorkerCosts> ReadCosts(std::string_view text, std::string_view key);

// Without the names of the workers.
std::string WritePair(std::string_view key, const PairCosts& pair);
absl::StatusOr<PairCosts> ReadPair(std::string_view text, std::string_view key);

}  // namespace tandem
