#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/grpc/generation_record.h"
#include "gateway/ingress/grpc/server_call.h"
#include "gateway/ingress/request/request.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// One Embed call.
class EmbedCall final : public OneRequestCall<v1::EmbedRequest, v1::EmbedResponse> {
 public:
  static constexpr char kMethod[] = "/tandem.v1.Inference/Embed";
  static EmbedCall* Start(CallHost& host, grpc::CallbackServerContext* context);

  void OnCancel() override;
  void OnDone() override;

 private:
  // Outlives the call while a wake is under way.
  struct Core {
    std::mutex mutex;
    EmbedCall* call = nullptr;  // null once the call is done
  };

  EmbedCall(CallHost& host, grpc::CallbackServerContext* context);
  void Received(const absl::Status& status) override;
  void Plan();
  absl::Status BeginLocked(AnswerSpec spec);
  void End(const absl::Status& status);
  // Takes what has come; whether the call is to be finished now, outside the lock.
  bool NextLocked();
  void EndLocked(const absl::Status& status);
  void FinishCall();

  const std::shared_ptr<Core> core_ = std::make_shared<Core>();
  // Set once, while planning.
  std::shared_ptr<const Serving> serving_;
  EmbeddingWish wish_;
  // Guarded by core_->mutex, until the call is finished.
  GenerationRecord record_;
  std::unique_ptr<RunningAnswer> answer_;
  v1::EmbedResponse response_;
  bool planning_ = true;  // no answer yet, and the request may be in use
  bool ending_ = false;   // FinishCall follows, or has been called
  bool finish_called_ = false;
  absl::Status end_status_;
};

}  // namespace tandem
