#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/grpc/generation_record.h"
#include "gateway/ingress/grpc/server_call.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// Checks a Generate request and plans its answer. InvalidArgument names the field.
absl::StatusOr<AnswerSpec> PlanGenerate(const Serving& serving, const v1::GenerateRequest& from);

// One Generate call. A client that does not read is cut off after write_timeout, or when the answer
// is kMaxWaiting tokens ahead of it (running_answer.h).
class GenerateCall final : public OneRequestCall<v1::GenerateRequest, v1::GenerateResponse> {
 public:
  static constexpr char kMethod[] = "/tandem.v1.Inference/Generate";
  static GenerateCall* Start(CallHost& host, grpc::CallbackServerContext* context);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Outlives the call while a wake is under way.
  struct Core {
    std::mutex mutex;
    GenerateCall* call = nullptr;  // null once the call is done
  };
  enum class Action { kNone, kCancel, kWrite, kWriteLast, kFinish };

  GenerateCall(CallHost& host, grpc::CallbackServerContext* context);
  void Received(const absl::Status& status) override;
  void Plan();
  absl::Status BeginLocked(AnswerSpec spec);
  void End(const absl::Status& status);
  void Pump();
  Action NextLocked();
  bool FillLocked();
  void EndLocked(const absl::Status& status);
  void Perform(Action action);

  const std::shared_ptr<Core> core_ = std::make_shared<Core>();
  // Set once, while planning.
  std::shared_ptr<const Serving> serving_;
  bool want_logprobs_ = false;
  // Guarded by core_->mutex; `response_` belongs to gRPC while `writing_`.
  GenerationRecord record_;
  std::unique_ptr<RunningAnswer> answer_;
  std::optional<RunningAnswer::Update> update_;  // being written
  std::size_t sent_ = 0;                         // of its tokens
  v1::GenerateResponse response_;
  bool planning_ = true;  // no answer yet, and the request may be in use
  bool writing_ = false;
  bool begun_ = false;
  bool ending_ = false;  // Finish follows, or has been called
  bool finish_called_ = false;
  absl::Status end_status_;
};

}  // namespace tandem
