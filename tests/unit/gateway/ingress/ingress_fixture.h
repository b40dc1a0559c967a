#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/http/http_server.h"
#include "gateway/ingress/router.h"
#include "lib/telemetry/span_exporter.h"
#include "tests/unit/gateway/ingress/fake_engine.h"
#include "tests/unit/gateway/ingress/http_test_client.h"

namespace tandem {

// The HTTP API over a real socket with a fake engine behind it.
class IngressFixture : public ::testing::Test {
 protected:
  IngressFixture();
  // Opens the port; tests that want other settings change them first.
  void Start();
  HttpTestClient Connect();
  // One request on a connection of its own.
  TestReply Ask(std::string_view method, std::string_view path, std::string_view body = "",
                std::string_view headers = "");

  FakeEngine engine_;
  ServingSlot serving_;
  ApiKeys keys_;
  IngressMetrics metrics_;
  HttpServerOptions options_;
  // Off; a test may start it.
  SpanExporter spans_;
  Router router_;
  std::unique_ptr<HttpServer> server_;
};

// {"model":"m", <members>}
std::string ChatBody(std::string_view members = "");        // messages: user says Hello
std::string CompletionBody(std::string_view members = "");  // prompt: Hello

}  // namespace tandem
