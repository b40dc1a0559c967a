#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "gateway/ingress/answer/generation_trace.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/grpc/server_call.h"
#include "gateway/schedule/request.h"

namespace tandem {

// What metrics, traces and the caller's key learn of one generation (an embedding is one, too),
// from its arrival to its end. One thread at a time.
class GenerationRecord {
 public:
  GenerationRecord(const CallHost& host, std::string_view endpoint)
      : host_(host), endpoint_(endpoint) {}

  // Lets it in, where the key and its limits do, and begins its trace.
  absl::Status Admit(const grpc::CallbackServerContext& context);
  // Gives it an id of its own, and what the cluster needs for its part of the trace.
  void Name(std::string_view id_prefix, std::string_view model, GenerationRequest* request);
  const std::string& id() const { return id_; }
  void FirstToken();
  // Once, last. `answer` is null where it did not get as far.
  void End(const absl::Status& status, const RunningAnswer* answer);

 private:
  const CallHost& host_;
  const std::string_view endpoint_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point first_token_;
  // Null: it is not traced.
  std::shared_ptr<GenerationTrace> trace_;
  KeyUse key_;
  std::string id_;
  std::string model_;
};

}  // namespace tandem
