#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "lib/base/enum_names.h"

namespace tandem {

enum class LogLevel : std::uint8_t { kTrace, kDebug, kInfo, kWarn, kError, kOff };
template <>
inline constexpr EnumName<LogLevel> kEnumNames<LogLevel>[] = {
    {LogLevel::kTrace, "trace"}, {LogLevel::kDebug, "debug"}, {LogLevel::kInfo, "info"},
    {LogLevel::kWarn, "warn"},   {LogLevel::kError, "error"}, {LogLevel::kOff, "off"}};

enum class LogFormat : std::uint8_t { kText, kJson };
template <>
inline constexpr EnumName<LogFormat> kEnumNames<LogFormat>[] = {{LogFormat::kText, "text"},
                                                                {LogFormat::kJson, "json"}};

// Sets up the process's log (spdlog's default logger): one line an event on standard error,
// `2026-11-20T10:00:00.123Z gpu-worker info  text`, or an object of JSON with the members time,
// process, level and message.
void InitLogging(const std::string& process, LogLevel level, LogFormat format);

// An event with fields: members of the line's object, or ` name=value` behind the text. Bytes that
// are no UTF-8 and control characters come escaped in both.
struct LogField {
  std::string_view name;
  std::variant<std::string_view, std::int64_t, double> value;
};
void LogEvent(std::string_view message, std::initializer_list<LogField> fields);

}  // namespace tandem
