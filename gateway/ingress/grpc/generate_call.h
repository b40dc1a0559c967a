#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <optional>

#include "absl/status/statusor.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/grpc/engine_call.h"
#include "gateway/ingress/grpc/server_call.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// Checks a Generate request and plans its answer. InvalidArgument names the field.
absl::StatusOr<AnswerSpec> PlanGenerate(const Serving& serving, const v1::GenerateRequest& from);

// One Generate call. A client that does not read is cut off after write_timeout, or when the answer
// is kMaxWaiting tokens ahead of it (running_answer.h).
class GenerateCall final : public EngineCall<v1::GenerateRequest, v1::GenerateResponse> {
 public:
  static constexpr char kMethod[] = "/tandem.v1.Inference/Generate";
  static GenerateCall* Start(CallHost& host, grpc::CallbackServerContext* context);

  void OnWriteDone(bool ok) override;

 private:
  GenerateCall(CallHost& host, grpc::CallbackServerContext* context);
  absl::StatusOr<AnswerSpec> Plan(const Serving& serving) override;
  Action NextLocked() override;
  bool FillLocked();

  // Set once, while planning.
  bool want_logprobs_ = false;
  // Under the lock.
  std::optional<RunningAnswer::Update> update_;  // being written
  std::size_t sent_ = 0;                         // of its tokens
  bool writing_ = false;
  bool begun_ = false;
};

}  // namespace tandem
