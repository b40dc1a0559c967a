#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include "gateway/ingress/grpc/grpc_generate.h"
#include "gateway/ingress/grpc/grpc_server.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem {

// The methods of tandem.v1.Inference. With API keys set, each wants the metadata entry
// "authorization: Bearer KEY" and answers UNAUTHENTICATED without. Thread-safe.
class InferenceService final : public v1::Inference::CallbackService {
 public:
  // `backend` outlives the service.
  InferenceService(const GrpcBackend& backend, PostFunction post);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetServedModelRequest* request,
                                     v1::ServedModel* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::ClusterStatus* response) override;

 private:
  absl::Status Authorize(const grpc::CallbackServerContext& context) const;
  // The model, for those who may ask.
  absl::StatusOr<std::shared_ptr<const Serving>> Admit(
      const grpc::CallbackServerContext& context) const;
  grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, std::string_view endpoint,
                                  const absl::Status& status) const;

  const GrpcBackend& backend_;
  const PostFunction post_;
};

}  // namespace tandem
