#include "lib/base/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::atomic<LogFormat> current_format{LogFormat::kText};
// The fields of the event that this thread logs now: sinks format in the thread that logs.
thread_local std::span<const LogField> current_fields;

std::string Dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

OrderedJson ValueOf(const LogField& field) {
  return std::visit([](const auto& value) { return OrderedJson(value); }, field.value);
}

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    spdlog::memory_buf_t time;
    time_.format(message, time);
    const spdlog::string_view_t level = spdlog::level::to_string_view(message.level);
    OrderedJson line = {
        {"time", std::string(time.data(), time.size())},
        {"process", std::string(message.logger_name.data(), message.logger_name.size())},
        {"level", std::string(level.data(), level.size())},
        {"message", std::string(message.payload.data(), message.payload.size())}};
    for (const LogField& field : current_fields) line[std::string(field.name)] = ValueOf(field);
    const std::string text = Dump(line) + "\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }

 private:
  spdlog::pattern_formatter time_{"%Y-%m-%dT%H:%M:%S.%eZ", spdlog::pattern_time_type::utc, ""};
};

// As it is where it has neither white space nor anything that could end the line; else quoted.
std::string TextOf(const LogField& field) {
  if (const auto* value = std::get_if<std::string_view>(&field.value)) {
    for (const char c : *value) {
      if (c <= ' ' || c > '~' || c == '"') return Dump(OrderedJson(*value));
    }
    return value->empty() ? "\"\"" : std::string(*value);
  }
  return Dump(ValueOf(field));
}

}  // namespace

void InitLogging(const std::string& process, LogLevel level, LogFormat format) {
  auto logger =
      std::make_shared<spdlog::logger>(process, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (format == LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %n %l  %v", spdlog::pattern_time_type::utc);
  }
  current_format.store(format);
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  spdlog::set_level(spdlog::level::from_str(std::string(NameOf(level))));
}

void LogEvent(std::string_view message, std::initializer_list<LogField> fields) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  if (current_format.load() == LogFormat::kJson) {
    current_fields = {fields.begin(), fields.size()};
    spdlog::info(message);
    current_fields = {};
    return;
  }
  std::string text(message);
  for (const LogField& field : fields) {
    text.append(" ").append(field.name).append("=").append(TextOf(field));
  }
  spdlog::info(text);
}

}  // namespace tandem
