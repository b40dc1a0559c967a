#include "gateway/ingress/router.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "gateway/ingress/answer/endpoints.h"
#include "gateway/ingress/answer/generation_job.h"
#include "gateway/ingress/openai/error.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kModelPrefix = "/v1/models/";

enum class Route { kHealth, kReady, kMetrics, kModels, kModel, kChat, kCompletions, kNone };

struct RouteRule {
  std::string_view path;
  std::string_view method;
  Route route;
};
constexpr std::array<RouteRule, 6> kRoutes = {{
    {"/healthz", "GET", Route::kHealth},
    {"/readyz", "GET", Route::kReady},
    {"/metrics", "GET", Route::kMetrics},
    {"/v1/models", "GET", Route::kModels},
    {"/v1/chat/completions", "POST", Route::kChat},
    {"/v1/completions", "POST", Route::kCompletions},
}};

std::string_view PathOf(std::string_view target) { return target.substr(0, target.find('?')); }

RouteRule FindRoute(std::string_view path) {
  for (const RouteRule& rule : kRoutes) {
    if (rule.path == path) return rule;
  }
  if (path.starts_with(kModelPrefix) && path.size() > kModelPrefix.size()) {
    return {kModelPrefix, "GET", Route::kModel};
  }
  return {path, "", Route::kNone};
}

// "%2F" and the like as the bytes they stand for; what is no escape stays as it is.
std::string PercentDecode(std::string_view text) {
  const auto digit = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) ? c - '0'
                                                              : absl::ascii_tolower(c) - 'a' + 10;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]));
    if (!escape) {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])));
    i += 2;
  }
  return out;
}

HttpReply JsonReply(const Json& json) {
  HttpReply reply;
  reply.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return reply;
}

Json ModelJson(const Serving& serving) {
  return {{"id", serving.model.id},
          {"object", "model"},
          {"created", serving.model.created},
          {"owned_by", "tandem"},
          {"max_model_len", serving.engine->limits().context_tokens}};
}

bool IsJson(std::string_view content_type) {
  const absl::string_view type =
      absl::StripAsciiWhitespace(AbslView(content_type.substr(0, content_type.find(';'))));
  return type.empty() || absl::EqualsIgnoreCase(type, "application/json");
}

}  // namespace

Router::Router(const ServingSlot& serving, const ApiKeys& keys, IngressMetrics& metrics)
    : serving_(serving), keys_(keys), metrics_(metrics) {}

HttpReply Router::ErrorReply(int status, const std::string& message) {
  ApiError error{.http_status = status,
                 .message = message,
                 .type = status >= 500 ? "server_error" : "invalid_request_error",
                 .param = "",
                 .code = ""};
  if (status == 413) error.code = "request_too_large";
  if (status == 503) error.code = "unavailable";
  metrics_.CountRequest("other", status);
  return HttpReply{.status = status,
                   .content_type = "application/json",
                   .headers = {},
                   .body = ErrorJson(error)};
}

std::optional<HttpReply> Router::Refuse(const HttpRequest& head) {
  const std::string_view path = PathOf(head.target);
  const RouteRule rule = FindRoute(path);
  if (rule.route == Route::kHealth || rule.route == Route::kReady) {
    if (head.method == rule.method) return std::nullopt;
  } else if (const absl::Status allowed = keys_.Check(head.authorization); !allowed.ok()) {
    metrics_.CountRequest("other", 401);
    return ErrorReplyFor(allowed);
  }
  if (rule.route == Route::kNone) {
    HttpReply reply = ErrorReply(404, Cat("unknown path: ", head.method, " ", path));
    return reply;
  }
  if (head.method != rule.method) {
    HttpReply reply = ErrorReply(405, Cat(path, " takes ", rule.method, ", not ", head.method));
    reply.headers.emplace_back("Allow", rule.method == "GET" ? "GET, HEAD" : "POST");
    return reply;
  }
  if (rule.method == "POST" && !IsJson(head.content_type)) {
    return ErrorReply(415,
                      Cat("expected Content-Type: application/json, found ", head.content_type));
  }
  return std::nullopt;
}

HttpResult Router::Handle(HttpRequest request, std::function<void()> wake) {
  const std::string_view path = PathOf(request.target);
  switch (FindRoute(path).route) {
    case Route::kHealth:
      return {.reply = Health(), .job = nullptr};
    case Route::kReady:
      return {.reply = Ready(), .job = nullptr};
    case Route::kMetrics:
      return {.reply = Metrics(), .job = nullptr};
    case Route::kModels:
      return {.reply = Models(), .job = nullptr};
    case Route::kModel:
      return {.reply = Model(PercentDecode(path.substr(kModelPrefix.size()))), .job = nullptr};
    case Route::kChat:
      return Chat(request, std::move(wake));
    case Route::kCompletions:
      return Completions(request, std::move(wake));
    case Route::kNone:
      break;
  }
  return {.reply = ErrorReply(404, Cat("unknown path: ", path)), .job = nullptr};
}

HttpReply Router::Health() const {
  HttpReply reply;
  reply.content_type = "text/plain; charset=utf-8";
  reply.body = "ok\n";
  return reply;
}

HttpReply Router::Ready() const {
  const auto serving = serving_.Get();
  const absl::Status status = serving.ok() ? (*serving)->engine->Ready() : serving.status();
  if (!status.ok()) return ErrorReplyFor(absl::UnavailableError(status.message()));
  return Health();
}

HttpReply Router::Metrics() const {
  HttpReply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = metrics_.Text();
  return reply;
}

HttpReply Router::Models() const {
  const auto serving = serving_.Get();
  if (!serving.ok()) return ErrorReplyFor(serving.status());
  return JsonReply({{"object", "list"}, {"data", Json::array({ModelJson(**serving)})}});
}

HttpReply Router::Model(const std::string& id) const {
  const auto serving = serving_.Get();
  if (!serving.ok()) return ErrorReplyFor(serving.status());
  if (id != (*serving)->model.id) return ErrorReplyFor(ModelNotFound(id));
  return JsonReply(ModelJson(**serving));
}

HttpResult Router::Chat(const HttpRequest& request, std::function<void()> wake) {
  const auto start = [&]() -> absl::StatusOr<std::unique_ptr<GenerationJob>> {
    auto serving = serving_.Get();
    if (!serving.ok()) return serving.status();
    return StartChat(*std::move(serving), request.body, &metrics_, std::move(wake));
  };
  auto job = start();
  if (job.ok()) return {.reply = std::nullopt, .job = *std::move(job)};
  HttpReply reply = ErrorReplyFor(job.status());
  metrics_.CountRequest("/v1/chat/completions", reply.status);
  return {.reply = std::move(reply), .job = nullptr};
}

HttpResult Router::Completions(const HttpRequest& request, std::function<void()> wake) {
  const auto start = [&]() -> absl::StatusOr<std::unique_ptr<GenerationJob>> {
    auto serving = serving_.Get();
    if (!serving.ok()) return serving.status();
    return StartCompletion(*std::move(serving), request.body, &metrics_, std::move(wake));
  };
  auto job = start();
  if (job.ok()) return {.reply = std::nullopt, .job = *std::move(job)};
  HttpReply reply = ErrorReplyFor(job.status());
  metrics_.CountRequest("/v1/completions", reply.status);
  return {.reply = std::move(reply), .job = nullptr};
}

}  // namespace tandem
