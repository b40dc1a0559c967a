#pragma once

#include <string>

#include "loader/serve/progress_tracker.h"

namespace tandem {

// The whole page of metrics of a loader.
std::string LoaderMetricsText(const LoadSnapshot& load);

}  // namespace tandem
