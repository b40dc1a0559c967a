#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/generation.h"
#include "gateway/ingress/metrics.h"
#include "gateway/ingress/serving.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {

// Hands work to a thread of the server; used because an engine's thread may only pass on news.
using PostFunction = std::function<void(std::function<void()>)>;

grpc::Status ToGrpcStatus(const absl::Status& status);
std::string_view GrpcCodeName(grpc::StatusCode code);

// One Generate call. Owns itself: gRPC deletes it through OnDone.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  // Plans and submits the request, and begins to answer; errors end the call.
  static GenerateReactor* Start(absl::StatusOr<std::shared_ptr<const Serving>> serving,
                                const v1::GenerateRequest& request, const PostFunction& post,
                                IngressMetrics* metrics);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Outlives the reactor while a wake is under way.
  struct Core {
    std::mutex mutex;
    GenerateReactor* reactor = nullptr;  // null once the call is done
  };
  enum class Action { kNone, kWrite, kWriteLast, kFinish };

  GenerateReactor(IngressMetrics* metrics);
  absl::Status Begin(std::shared_ptr<const Serving> serving, const v1::GenerateRequest& request,
                     const PostFunction& post);
  void Pump();
  Action NextLocked();
  void FillLocked(Generation::Update update);
  void EndLocked(const absl::Status& status);
  void Perform(Action action);

  IngressMetrics* metrics_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::shared_ptr<Core> core_ = std::make_shared<Core>();
  // Guarded by core_->mutex; `response_` belongs to gRPC while `writing_`.
  std::shared_ptr<const Serving> serving_;
  std::unique_ptr<Generation> generation_;
  v1::GenerateResponse response_;
  std::string id_;
  bool want_logprobs_ = false;
  bool writing_ = false;
  bool begun_ = false;
  bool ending_ = false;  // Finish follows, or has been called
  bool finish_called_ = false;
  absl::Status end_status_;
};

}  // namespace tandem
