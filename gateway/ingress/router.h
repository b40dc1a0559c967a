#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gateway/ingress/auth.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/metrics.h"
#include "gateway/ingress/serving.h"

namespace tandem {

// The HTTP API: which path does what, who may call it. docs/openai-api.md describes it.
//   POST /v1/chat/completions, /v1/completions    GET /v1/models, /v1/models/{id}, /metrics
//   GET /healthz (the process lives), /readyz (the cluster serves): these two need no key
class Router final : public HttpHandler {
 public:
  // All outlive the router.
  Router(const ServingSlot& serving, const ApiKeys& keys, IngressMetrics& metrics);

  std::optional<HttpReply> Refuse(const HttpRequest& head) override;
  HttpResult Handle(HttpRequest request, std::function<void()> wake) override;
  HttpReply ErrorReply(int status, const std::string& message) override;

 private:
  HttpReply Health() const;
  HttpReply Ready() const;
  HttpReply Models() const;
  HttpReply Model(const std::string& id) const;
  HttpReply Metrics() const;
  HttpResult Chat(const HttpRequest& request, std::function<void()> wake);
  HttpResult Completions(const HttpRequest& request, std::function<void()> wake);

  const ServingSlot& serving_;
  const ApiKeys& keys_;
  IngressMetrics& metrics_;
};

}  // namespace tandem
