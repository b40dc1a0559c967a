#pragma once

#include <string>

namespace tandem {

// Sets up the process's log (spdlog's default logger): one line an event on standard error,
// `2026-11-20T10:00:00.123Z gpu-worker info  text`. Level: trace|debug|info|warn|error, else info
// with a warning.
void InitLogging(const std::string& process, const std::string& level);

}  // namespace tandem
