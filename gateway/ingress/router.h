#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "gateway/ingress/allowed_hosts.h"
#include "gateway/ingress/answer/answer_job.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/cors.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/metrics.h"
#include "gateway/ingress/serving.h"
#include "gateway/ingress/watch/watch_pages.h"

namespace tandem {

// The HTTP API: which path does what, who may call it. docs/openai-api.md describes it.
//   POST /v1/chat/completions, /v1/completions    GET /v1/models, /v1/models/{id}
//   GET what watch/watch_pages.h lists
//   GET / and what page/page_files.h has: a page for people, which needs no key itself
//   GET /healthz (the process lives), /readyz (the cluster serves): these two need no key
// Requests that a web page of another place makes a browser send are refused, unless CORS rules
// allow them.
class Router final : public HttpHandler {
 public:
  // All outlive the router.
  Router(const ServingSlot& serving, const ApiKeys& keys, IngressMetrics& metrics);
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
  using PlanFunction = absl::StatusOr<AnswerJobSpec> (*)(const Serving& serving,
                                                         std::string_view body);

  std::optional<HttpReply> RefusePage(const HttpRequest& head);
  HttpReply Health() const;
  HttpReply Ready() const;
  HttpReply Models() const;
  HttpReply Model(const std::string& id) const;
  HttpResult Answer(std::string_view path, PlanFunction plan, const HttpRequest& request,
                    std::function<void()> wake);

  const ServingSlot& serving_;
  const ApiKeys& keys_;
  IngressMetrics& metrics_;
  AllowedHosts hosts_;
  CorsRules cors_;
  WatchPages watch_;
};

}  // namespace tandem
