#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tandem/v1/control.grpc.pb.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tandem/v1/loader.grpc.pb.h"
#include "tandem/v1/trace.grpc.pb.h"

namespace tandem {

// A client of the gateway's gRPC port. Any thread.
class GatewayClient {
 public:
  // `address`: host:port or unix:/path. `api_key` may be empty. `tls_ca`: certificates (PEM) of
  // authorities that the server's must be of; empty: without TLS.
  explicit GatewayClient(const std::string& address, std::string api_key = "",
                         const std::string& tls_ca = "");

  absl::StatusOr<v1::ClusterStatus> Status(absl::Duration timeout);
  absl::StatusOr<v1::ServedModel> Model(absl::Duration timeout);
  absl::StatusOr<std::vector<std::int32_t>> Tokenize(const std::string& text, bool add_bos,
                                                     bool parse_special);
  absl::StatusOr<std::string> Detokenize(const std::vector<std::int32_t>& ids);
  // Asks for another plan and waits until it serves. The error of a change that failed names the
  // plan that stays; ABORTED where the gateway is another process meanwhile.
  absl::Status ChangePlan(const std::string& plan);
  absl::StatusOr<v1::PlanReport> PlanReport(absl::Duration timeout);
  absl::StatusOr<v1::TraceResponse> Trace(const v1::TraceRequest& request);
  // Calls `on_message` for each message. As soon as `stop_fd` (-1: none) is readable the request is
  // cancelled, also before the first message; what came until then stands, and the result is OK.
  absl::Status Generate(const v1::GenerateRequest& request, int stop_fd,
                        const std::function<void(const v1::GenerateResponse&)>& on_message);

 private:
  void Prepare(grpc::ClientContext* context, absl::Duration timeout) const;
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::unique_ptr<v1::Tracing::Stub> tracing_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::string api_key_;
};

// Asks a server of gRPC's health protocol. OK: it serves; UNAVAILABLE: it does not, or does not
// answer.
absl::Status CheckHealth(const std::string& address, absl::Duration timeout);

// gRPC status as an Abseil one.
absl::Status FromGrpc(const grpc::Status& status);

// The key to show: the first in the file (lib/service/api_keys.h). Empty path: empty key.
absl::StatusOr<std::string> ReadApiKey(const std::string& file);

}  // namespace tandem
