#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/grpc/engine_call.h"
#include "gateway/ingress/grpc/server_call.h"
#include "gateway/ingress/request/request.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// One Embed call.
class EmbedCall final : public EngineCall<v1::EmbedRequest, v1::EmbedResponse> {
 public:
  static constexpr char kMethod[] = "/tandem.v1.Inference/Embed";
  static EmbedCall* Start(CallHost& host, grpc::CallbackServerContext* context);

 private:
  EmbedCall(CallHost& host, grpc::CallbackServerContext* context);
  absl::StatusOr<AnswerSpec> Plan(const Serving& serving) override;
  Action NextLocked() override;

  // Set once, while planning.
  EmbeddingWish wish_;
};

}  // namespace tandem
