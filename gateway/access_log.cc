#include "gateway/access_log.h"

#include <cstdint>
#include <string_view>

#include "lib/base/logging.h"

namespace tandem {
namespace {

void LogExchange(const HttpExchange& exchange, bool with_body) {
  const LogField id{"request_id", exchange.id};
  const LogField method{"method", exchange.method};
  const LogField path{"path", exchange.path};
  const LogField status{"status", std::int64_t{exchange.status}};
  const LogField bytes{"bytes", static_cast<std::int64_t>(exchange.reply_bytes)};
  const LogField time{"milliseconds", absl::ToDoubleMilliseconds(exchange.time)};
  const LogField client{"client", std::string_view(exchange.client_left ? "left" : "stayed")};
  if (with_body) {
    LogEvent("http", {id, method, path, status, bytes, time, client, {"body", exchange.body}});
  } else {
    LogEvent("http", {id, method, path, status, bytes, time, client});
  }
}

void LogCall(const GrpcExchange& exchange, bool with_body) {
  const LogField id{"request_id", exchange.id};
  const LogField method{"method", exchange.method};
  const LogField code{"code", exchange.code};
  const LogField time{"milliseconds", absl::ToDoubleMilliseconds(exchange.time)};
  if (with_body) {
    LogEvent("grpc", {id, method, code, time, {"body", exchange.body}});
  } else {
    LogEvent("grpc", {id, method, code, time});
  }
}

}  // namespace

void AddAccessLog(const GatewaySettings& settings, HttpServerOptions* options) {
  if (!settings.access_log) return;
  options->keep_bodies = settings.log_prompts;
  options->on_exchange = [with_body = settings.log_prompts](const HttpExchange& exchange) {
    LogExchange(exchange, with_body);
  };
}

void AddAccessLog(const GatewaySettings& settings, GrpcServerOptions* options) {
  if (!settings.access_log) return;
  options->keep_bodies = settings.log_prompts;
  options->on_exchange = [with_body = settings.log_prompts](const GrpcExchange& exchange) {
    LogCall(exchange, with_body);
  };
}

}  // namespace tandem
