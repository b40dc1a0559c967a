#include "gateway/ingress/router.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "gateway/ingress/answer/answer_job.h"
#include "gateway/ingress/doors/doors.h"
#include "gateway/ingress/page/page_files.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxShownBytes = 100;

// Without the query, and without slashes at its end.
std::string_view PathOf(std::string_view target) {
  std::string_view path = target.substr(0, target.find('?'));
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return path;
}

bool Fits(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return pattern == path;
  pattern.remove_suffix(1);
  return path.starts_with(pattern) && path.size() > pattern.size();
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

bool IsJson(std::string_view content_type) {
  const absl::string_view type =
      absl::StripAsciiWhitespace(AbslView(content_type.substr(0, content_type.find(';'))));
  return absl::EqualsIgnoreCase(type, "application/json");
}

}  // namespace

Router::Router(const DoorServices& services)
    : services_(services), doors_(MakeDoors(services)), watch_(services.metrics) {
  for (const std::unique_ptr<Door>& door : doors_) {
    for (Route& route : door->Routes()) routes_.push_back(std::move(route));
  }
  AddPages();
}

// What is for people and for those who watch: no API, so no door.
void Router::AddPages() {
  for (const std::string_view path : PagePaths()) {
    const auto file = [path](const DoorCall&) -> HttpResult {
      return {.reply = PageFile(path), .job = nullptr};
    };
    routes_.push_back({.method = "GET", .path = path, .handle = file, .open = true});
  }
  for (const std::string_view path : WatchPages::Paths()) {
    routes_.push_back({.method = "GET",
                       .path = path,
                       .handle =
                           [this](DoorCall call) {
                             return watch_.Handle(PathOf(call.request.target), call.request.host,
                                                  std::move(call.wake));
                           },
                       .scope = KeyScope::kMetrics,
                       .essential = true});
  }
}

void Router::SetHosts(AllowedHosts hosts) { hosts_ = std::move(hosts); }

void Router::SetCors(CorsRules cors) { cors_ = std::move(cors); }

HttpHeaders Router::HeadersFor(const HttpRequest& head) const {
  return cors_.HeadersFor(head.origin);
}

const Route* Router::Find(const HttpRequest& head) const {
  const std::string_view path = PathOf(head.target);
  const auto found = std::find_if(routes_.begin(), routes_.end(), [&](const Route& route) {
    return route.method == head.method && Fits(route.path, path);
  });
  return found == routes_.end() ? nullptr : &*found;
}

std::string Router::MethodsOf(std::string_view path) const {
  std::string methods;
  for (const Route& route : routes_) {
    if (!Fits(route.path, path)) continue;
    methods.append(
        Cat(methods.empty() ? "" : ", ", route.method == "GET" ? "GET, HEAD" : route.method));
  }
  return methods;
}

// The longest prefix counts.
ErrorWriter Router::ErrorsOf(std::string_view path) const {
  const Door* best = nullptr;
  for (const std::unique_ptr<Door>& door : doors_) {
    if (!path.starts_with(door->prefix())) continue;
    if (best == nullptr || door->prefix().size() > best->prefix().size()) best = door.get();
  }
  return best == nullptr ? ErrorJson : best->errors();
}

HttpReply Router::Error(int status, const std::string& message, ErrorWriter errors) const {
  ApiError error{.http_status = status,
                 .message = message,
                 .type = status >= 500 ? "server_error" : "invalid_request_error",
                 .param = "",
                 .code = ""};
  if (status == 413) error.code = "request_too_large";
  if (status == 503) error.code = "unavailable";
  services_.metrics.CountRequest("other", status);
  return HttpReply{
      .status = status, .content_type = "application/json", .headers = {}, .body = errors(error)};
}

HttpReply Router::ErrorReply(int status, const std::string& message) {
  return Error(status, message, ErrorJson);
}

// Web pages of other places may make a browser send requests here. They cannot choose Host, and a
// name of theirs that resolves to this machine is not one of ours; nor can they choose Origin.
std::optional<HttpReply> Router::RefusePage(const HttpRequest& head) const {
  const ErrorWriter errors = ErrorsOf(PathOf(head.target));
  if (head.host_count > 1 || (head.host_count == 0 && head.version >= 11)) {
    return Error(400, Cat("expected one Host header, found ", head.host_count), errors);
  }
  if (head.host_count == 1 && !hosts_.Allows(head.host)) {
    return Error(403,
                 Cat("Host '", head.host.substr(0, kMaxShownBytes),
                     "' is not a name of this server: use its address, or start it with "
                     "--allowed_hosts"),
                 errors);
  }
  if (!head.origin.empty() && !IsOriginOf(head.origin, head.host) && !cors_.Allows(head.origin)) {
    return Error(403,
                 Cat("requests from web pages of '", head.origin.substr(0, kMaxShownBytes),
                     "' are not served"),
                 errors);
  }
  return std::nullopt;
}

std::optional<HttpReply> Router::RefuseBody(const HttpRequest& head) const {
  const ErrorWriter errors = ErrorsOf(PathOf(head.target));
  if (!IsJson(head.content_type)) {
    return Error(415,
                 Cat("expected Content-Type: application/json, found ",
                     head.content_type.empty() ? "none" : head.content_type),
                 errors);
  }
  if (!head.content_encoding.empty() &&
      !absl::EqualsIgnoreCase(head.content_encoding, "identity")) {
    return Error(415,
                 Cat("a body with Content-Encoding: ", head.content_encoding,
                     " is not read: send it as it is"),
                 errors);
  }
  return std::nullopt;
}

std::optional<HttpReply> Router::Refuse(const HttpRequest& head) {
  if (std::optional<HttpReply> refusal = RefusePage(head)) return refusal;
  if (CorsRules::IsPreflight(head)) return CorsRules::PreflightReply(head);
  const std::string_view path = PathOf(head.target);
  const ErrorWriter errors = ErrorsOf(path);
  const Route* route = Find(head);
  if (route == nullptr || !route->open) {
    // A path that somebody who has no key may ask is no secret: with another method it is a 405.
    const bool open = std::any_of(routes_.begin(), routes_.end(), [path](const Route& other) {
      return other.open && Fits(other.path, path);
    });
    const KeyScope scope = route == nullptr ? KeyScope::kInference : route->scope;
    const absl::Status allowed = services_.keys.Check(head.authorization, scope);
    if (!open && !allowed.ok()) {
      HttpReply reply = ErrorReplyFor(allowed, errors);
      services_.metrics.CountRequest("other", reply.status);
      return reply;
    }
  }
  if (route != nullptr) return head.method == "POST" ? RefuseBody(head) : std::nullopt;
  const std::string methods = MethodsOf(path);
  if (methods.empty()) return Error(404, Cat("unknown path: ", head.method, " ", path), errors);
  HttpReply reply = Error(405, Cat(path, " takes ", methods, ", not ", head.method), errors);
  reply.headers.emplace_back("Allow", methods);
  return reply;
}

bool Router::Essential(const HttpRequest& head) const {
  const Route* route = Find(head);
  return route != nullptr && route->essential;
}

HttpResult Router::Handle(HttpRequest request, std::function<void()> wake) {
  const std::string_view path = PathOf(request.target);
  const Route* route = Find(request);
  if (route == nullptr) {
    return {.reply = Error(404, Cat("unknown path: ", path), ErrorsOf(path)), .job = nullptr};
  }
  std::string parameter;
  if (route->path.ends_with('*')) {
    parameter = PercentDecode(path.substr(route->path.size() - 1));
  }
  return route->handle(DoorCall{
      .request = std::move(request), .parameter = std::move(parameter), .wake = std::move(wake)});
}

}  // namespace tandem
