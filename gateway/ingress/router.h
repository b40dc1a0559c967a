#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/ingress/allowed_hosts.h"
#include "gateway/ingress/cors.h"
#include "gateway/ingress/doors/door.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/watch/watch_pages.h"

namespace tandem {

// Which path belongs to which door, and who may call it: the one table of the HTTP port. A slash at
// a path's end makes no difference. Requests that a web page of another place makes a browser send
// are refused, unless CORS rules allow them. docs/openai-api.md describes it. Beside the doors it
// has the pages of watch/watch_pages.h and the one for people (page/page_files.h), which needs no
// key.
class Router final : public HttpHandler {
 public:
  // What `services` refers to outlives the router.
  explicit Router(const DoorServices& services);
  // The names under which the server may be asked; before it is asked first.
  void SetHosts(AllowedHosts hosts);
  // The pages that may use it; before it is asked first.
  void SetCors(CorsRules cors);
  void SetWatchSources(WatchSources sources) { watch_.SetSources(std::move(sources)); }

  std::optional<HttpReply> Refuse(const HttpRequest& head) override;
  HttpResult Handle(HttpRequest request, std::function<void()> wake) override;
  HttpReply ErrorReply(int status, const std::string& message) override;
  HttpHeaders HeadersFor(const HttpRequest& head) const override;
  bool Essential(const HttpRequest& head) const override;

 private:
  const Route* Find(const HttpRequest& head) const;
  // The methods of the routes that fit the path, with commas; "" where none does.
  std::string MethodsOf(std::string_view path) const;
  ErrorWriter ErrorsOf(std::string_view path) const;
  HttpReply Error(int status, const std::string& message, ErrorWriter errors) const;
  std::optional<HttpReply> RefusePage(const HttpRequest& head) const;
  std::optional<HttpReply> RefuseBody(const HttpRequest& head) const;

  void AddPages();

  const DoorServices services_;
  const std::vector<std::unique_ptr<Door>> doors_;
  std::vector<Route> routes_;
  AllowedHosts hosts_;
  CorsRules cors_;
  WatchPages watch_;
};

}  // namespace tandem
