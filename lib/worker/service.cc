#include "lib/worker/service.h"

#include <grpcpp/grpcpp.h>

#include <functional>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/worker/control_thread.h"
#include "lib/worker/steps_stream.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

class WorkerService::Impl final : public v1::Worker::CallbackService {
 public:
  explicit Impl(WorkerEngine& engine) : engine_(engine), control_(kMaxPendingCalls) {}

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest*,
                                     v1::WorkerDescription* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    engine_.Describe(reply);
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* Prepare(grpc::CallbackServerContext* context,
                                    const v1::PrepareRequest* request,
                                    v1::PrepareResponse* reply) override {
    const absl::Status announced = engine_.Announce(*request);
    if (!announced.ok()) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(ToGrpc(announced));
      return reactor;
    }
    return Post(context, [this, request, reply] { return engine_.Prepare(*request, reply); });
  }

  grpc::ServerUnaryReactor* Connect(grpc::CallbackServerContext* context,
                                    const v1::ConnectRequest* request,
                                    v1::ConnectResponse* reply) override {
    return Post(context, [this, request, reply] { return engine_.Connect(*request, reply); });
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest*,
                                  v1::DrainResponse*) override {
    return Post(context, [this] {
      engine_.Drain();
      return absl::OkStatus();
    });
  }

  // The newest stream is the one that counts: a gateway that came back must not wait for its
  // predecessor's connection to time out.
  grpc::ServerBidiReactor<v1::StepRequest, v1::StepResult>* Steps(
      grpc::CallbackServerContext*) override {
    std::shared_ptr<StepsStream> stream = StepsStream::Create(engine_.steps());
    std::shared_ptr<StepsStream> before;
    {
      std::lock_guard lock(mutex_);
      before = steps_.lock();
      steps_ = stream;
    }
    if (before != nullptr)
      before->End({grpc::StatusCode::CANCELLED, "another stream of steps has taken over"});
    return stream.get();
  }

  grpc::ServerReadReactor<v1::EdgeFrame>* PushEdge(grpc::CallbackServerContext* context,
                                                   v1::PushEdgeResponse*) override {
    return engine_.inbox().NewStream(*context);
  }

  void EndStreams() {
    std::shared_ptr<StepsStream> steps;
    {
      std::lock_guard lock(mutex_);
      steps = steps_.lock();
    }
    if (steps != nullptr) steps->End({grpc::StatusCode::UNAVAILABLE, "the worker stops"});
    engine_.inbox().EndStreams(absl::UnavailableError("the worker stops"));
  }

 private:
  grpc::ServerUnaryReactor* Post(grpc::CallbackServerContext* context,
                                 std::function<absl::Status()> call) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const bool posted =
        control_.Post([reactor, call = std::move(call)] { reactor->Finish(ToGrpc(call())); });
    if (!posted)
      reactor->Finish(ToGrpc(absl::ResourceExhaustedError(
          absl::StrCat("more than ", kMaxPendingCalls, " calls wait already"))));
    return reactor;
  }

  WorkerEngine& engine_;
  std::mutex mutex_;
  std::weak_ptr<StepsStream> steps_;
  ControlThread control_;  // last: its tasks use the engine
};

WorkerService::WorkerService(WorkerEngine& engine) : impl_(std::make_unique<Impl>(engine)) {}
WorkerService::~WorkerService() = default;
grpc::Service* WorkerService::service() { return impl_.get(); }
void WorkerService::EndStreams() { impl_->EndStreams(); }

}  // namespace tandem
