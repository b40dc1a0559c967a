#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "gateway/dispatch/rpc.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {

// One Steps stream to one worker. Send and Close: one thread. The handlers run on gRPC's threads:
// on_result for every message, then on_end once, when the stream has broken or was closed. The
// object lives until gRPC has let go of it, whoever else drops it.
class StepStream final : public grpc::ClientBidiReactor<v1::StepRequest, v1::StepResult>,
                         public std::enable_shared_from_this<StepStream> {
 public:
  struct Handlers {
    std::function<void(v1::StepResult result)> on_result;
    std::function<void()>
        on_end;  // nothing more will come; the reason, where there is one, goes to the log
  };
  static std::shared_ptr<StepStream> Open(v1::Worker::Stub& stub, CallSet& calls,
                                          Handlers handlers);

  void Send(v1::StepRequest request);
  void Close();  // cancels the stream; the worker aborts what runs. Once, last

 private:
  explicit StepStream(Handlers handlers) : handlers_(std::move(handlers)) {}
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  Handlers handlers_;
  std::shared_ptr<grpc::ClientContext> context_ = std::make_shared<grpc::ClientContext>();
  std::unique_ptr<CallSet::Ticket> ticket_;
  std::shared_ptr<StepStream> self_;  // until OnDone
  v1::StepResult incoming_;
  v1::StepRequest outgoing_;
  std::mutex mutex_;
  bool writing_ = false;  // guarded, as is the queue: one write at a time is gRPC's rule
  std::deque<v1::StepRequest> queue_;
};

}  // namespace tandem
