#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include "gateway/ingress/grpc/generate_call.h"
#include "gateway/ingress/grpc/server_call.h"

namespace tandem {

// The methods of tandem.v1.Inference, tandem.v1.Tracing and tandem.v1.Control. With API keys set,
// each wants the metadata entry "authorization: Bearer KEY" and answers UNAUTHENTICATED without,
// before it reads the message. Thread-safe.
class InferenceService final : public grpc::Service {
 public:
  // `host` outlives the service.
  explicit InferenceService(CallHost& host);

 private:
  template <typename Request, typename Response>
  void AddUnary(const typename UnaryCall<Request, Response>::Method& method);
  absl::StatusOr<std::shared_ptr<const Serving>> serving() const {
    return host_.backend.serving->Get();
  }

  absl::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse& response) const;
  absl::Status Detokenize(const v1::DetokenizeRequest& request,
                          v1::DetokenizeResponse& response) const;
  absl::Status GetModel(v1::ServedModel& response) const;

  CallHost& host_;
  int methods_ = 0;
};

}  // namespace tandem
