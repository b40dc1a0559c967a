#pragma once

#include <cstdint>
#include <string>

#include "lib/base/enum_names.h"

namespace tandem {

enum class LogLevel : std::uint8_t { kTrace, kDebug, kInfo, kWarn, kError, kOff };
template <>
inline constexpr EnumName<LogLevel> kEnumNames<LogLevel>[] = {
    {LogLevel::kTrace, "trace"}, {LogLevel::kDebug, "debug"}, {LogLevel::kInfo, "info"},
    {LogLevel::kWarn, "warn"},   {LogLevel::kError, "error"}, {LogLevel::kOff, "off"}};

// Sets up the process's log (spdlog's default logger): one line an event on standard error,
// `2026-11-20T10:00:00.123Z gpu-worker info  text`.
void InitLogging(const std::string& process, LogLevel level);

}  // namespace tandem
