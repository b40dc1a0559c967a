#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/dispatch/rpc.h"
#include "gateway/dispatch/step_stream.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {

// The gateway's end of one worker. Methods: one thread (the engine's). Callbacks run on gRPC's
// threads, perhaps before the method returns, and never after Shutdown.
class WorkerLink {
 public:
  WorkerLink(std::string name, std::string role, std::string address);
  ~WorkerLink() { Shutdown(); }

  const std::string& name() const { return name_; }
  const std::string& role() const { return role_; }
  const std::string& address() const { return address_; }

  template <typename Response>
  using Done = std::function<void(const absl::Status& status, const Response& response)>;
  void Describe(absl::Duration timeout, Done<v1::WorkerDescription> done);
  void Prepare(v1::PrepareRequest request, absl::Duration timeout, Done<v1::PrepareResponse> done);
  void Connect(v1::ConnectRequest request, absl::Duration timeout, Done<v1::ConnectResponse> done);

  void OpenSteps(StepStream::Handlers handlers);
  void Send(v1::StepRequest request);  // after OpenSteps

  void Abandon();   // cancels every call and the stream
  void Shutdown();  // Abandon, and waits until the last callback is over

 private:
  void CloseSteps();

  std::string name_;
  std::string role_;
  std::string address_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::shared_ptr<StepStream> steps_;
  CallSet calls_;
};

}  // namespace tandem
