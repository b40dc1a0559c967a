#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

class SpanExporter;

// A door is one API over HTTP in front of the engine: a folder here that reads its requests into an
// InferenceRequest and writes its answers from AnswerEvents. doors.h lists all of them.

// What every door is given. All outlive it.
struct DoorServices {
  const ServingSlot& serving;
  IngressMetrics& metrics;
  const ApiKeys& keys;
  ReadOptions read;
  // Where requests are traced to; null: nowhere.
  SpanExporter* spans = nullptr;
};

// One request for a door.
struct DoorCall {
  HttpRequest request;
  // What the "*" of the route's path stood for, without percent-encoding.
  std::string parameter;
  // For a job; as HttpHandler::Handle has it.
  std::function<void()> wake;
};

struct Route {
  std::string_view method;
  // "/v1/models", or "/v1/models/*" for all that begins like that and goes on.
  std::string_view path;
  std::function<HttpResult(DoorCall call)> handle;
  // It needs no key; else one of this scope.
  bool open = false;
  KeyScope scope = KeyScope::kInference;
  // Cheap, and answered even while there are too many connections.
  bool essential = false;
};

// Thread-safe.
class Door {
 public:
  virtual ~Door() = default;
  // Once, when the router is made. The first route that fits a path and a method counts.
  virtual std::vector<Route> Routes() = 0;
  // How paths begin whose errors it writes, and how it does it.
  virtual std::string_view prefix() const = 0;
  virtual ErrorWriter errors() const = 0;
};

// What a door says of how an answer is made.
struct AnswerPlan {
  // For the metrics, and how the API writes an error that comes before anything else.
  std::string_view endpoint;
  ErrorWriter errors = nullptr;
  // Before the answer's random name.
  std::string_view id_prefix;
  std::function<std::unique_ptr<AnswerFormat>(AnswerInfo info, const InferenceRequest& request)>
      format;
};

// Starts the answer to what was read; where that or the start failed, the reply says why.
HttpResult StartAnswer(const DoorServices& services, DoorCall& call, const AnswerPlan& plan,
                       absl::StatusOr<InferenceRequest> request);

// A reply with a JSON text, and one with an error, which is counted.
HttpResult JsonReply(std::string body);
HttpResult ErrorResult(const DoorServices& services, std::string_view endpoint, ErrorWriter errors,
                       const absl::Status& status);

}  // namespace tandem
