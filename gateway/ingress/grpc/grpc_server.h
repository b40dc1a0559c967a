#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/dispatch/auto_plan.h"
#include "gateway/dispatch/model_info.h"
#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/auth.h"
#include "lib/service/listen_address.h"

namespace tandem::v1 {
class TraceRequest;
class TraceResponse;
}  // namespace tandem::v1

namespace tandem {

class GrpcCredentials;
class SpanExporter;

// What GetStatus answers. Any thread; must not block.
using ClusterStatusSource = std::function<ClusterStatus()>;

// A call that has ended, for an access log.
struct GrpcExchange {
  std::string method;  // "/tandem.v1.Inference/Generate"
  // What the caller calls it in x-request-id, where that is a plain word, else one made here; the
  // answer's metadata have it, too.
  std::string id;
  std::string body;       // as JSON, where GrpcServerOptions::keep_bodies asks for it
  std::string_view code;  // "OK"
  absl::Duration time;    // from its arrival to the end of the answer
};

struct GrpcServerOptions {
  int max_message_bytes = 8 << 20;  // received
  int workers = 2;                  // tokenise and plan requests
  int max_waiting_requests = 128;   // for a worker; further ones are UNAVAILABLE
  // For one more, the connection that has been without a call for longest is closed.
  std::size_t max_connections = 256;
  std::size_t max_connections_per_peer = 64;  // of another machine
  int max_streams_per_connection = 64;
  // What gRPC itself may hold for connections and messages; it cancels calls to stay under it.
  std::size_t max_memory_bytes = 128 << 20;
  // Of messages that it has handed over, until they are planned or answered, as they lie in memory:
  // many times what was sent where that is made of many small parts. Further ones are UNAVAILABLE.
  std::size_t max_request_memory = 128 << 20;
  absl::Duration read_timeout = absl::Seconds(30);   // for a request's message
  absl::Duration write_timeout = absl::Seconds(60);  // for a client that does not read
  absl::Duration handshake_timeout = absl::Seconds(10);
  absl::Duration idle_timeout = absl::Minutes(5);  // of connections without calls
  absl::Duration max_age = absl::Hours(1);         // of connections; then max_age_grace for calls
  absl::Duration max_age_grace = absl::Minutes(10);
  absl::Duration keepalive_period = absl::Minutes(1);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  // TLS with these; outlives the server.
  const GrpcCredentials* tls = nullptr;
  // Called after each call, on gRPC's threads: must not block. May be empty.
  std::function<void(const GrpcExchange& exchange)> on_exchange = {};
  bool keep_bodies = false;
};

// What the service needs; all outlive the server.
struct GrpcBackend {
  const ServingSlot* serving = nullptr;
  const ApiKeys* keys = nullptr;
  IngressMetrics* metrics = nullptr;
  ClusterStatusSource status;
  // Where generations are traced to; null: nowhere.
  SpanExporter* spans = nullptr;
  // What tandem.v1.Tracing answers. Any thread; may block for seconds.
  std::function<absl::Status(const v1::TraceRequest& request, v1::TraceResponse* response)> trace =
      nullptr;
  // Cluster::ChangePlan. Any thread.
  std::function<absl::StatusOr<std::uint64_t>(const std::string& plan)> change_plan = nullptr;
  // Cluster::Report. Any thread; must not block.
  std::function<PlanReport()> plan_report = nullptr;
};

// tandem.v1.Inference, Tracing and Control with health and reflection on one address. The health of "" and
// of "tandem.v1.Inference" follows Engine::Ready.
class GrpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const ListenAddress& address,
                                                           const GrpcServerOptions& options,
                                                           GrpcBackend backend);
  // Shutdown without grace.
  ~GrpcServer();

  // The actual address: "127.0.0.1:41233" or "unix:/path".
  std::string address() const;
  // The engine's readiness has changed: its health follows at once. Not during Shutdown.
  void LookAtHealth();
  // Accepts nothing more; calls that run longer than `grace` are cancelled.
  void Shutdown(absl::Duration grace);

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
