#include "lib/worker/service.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/wire/step_wire.h"
#include "lib/worker/step_loop.h"
#include "lib/worker/worker_metrics.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

// One thread that runs tasks in order, behind a bounded queue.
class ControlThread {
 public:
  explicit ControlThread(std::size_t max_waiting)
      : max_waiting_(max_waiting), thread_([this] { Run(); }) {}
  // Runs what waits, then ends.
  ~ControlThread() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  // False when the queue is full; the task is then dropped.
  bool Post(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    if (stopping_ || tasks_.size() >= max_waiting_) return false;
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return true;
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
  }

  const std::size_t max_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::deque<std::function<void()>> tasks_;
  std::thread thread_;
};

// One Steps stream: reads requests into the step loop, writes results back. Owns itself until
// OnDone; others hold weak references.
class StepsStream final : public grpc::ServerBidiReactor<v1::StepRequest, v1::StepResult>,
                          public StepSink {
 public:
  static std::shared_ptr<StepsStream> Create(StepLoop& loop);

  void OnResult(const StepResult& result) override;
  // Cancels its steps and ends the stream.
  void End(grpc::Status status);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Steps read and not yet answered on the wire; beyond it reading pauses, so that nothing grows
  // without bound.
  static constexpr std::size_t kMaxOutstanding = 2 * StepLoop::kMaxQueuedSteps;

  explicit StepsStream(StepLoop& loop) : loop_(loop) {}
  // With mutex_ held.
  void WriteNext();
  void ReadNext();

  StepLoop& loop_;
  std::shared_ptr<StepsStream> self_;
  v1::StepRequest request_;
  std::mutex mutex_;
  std::deque<v1::StepResult> results_;  // the front one is being written when writing_
  std::size_t outstanding_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool finished_ = false;
};

std::shared_ptr<StepsStream> StepsStream::Create(StepLoop& loop) {
  std::shared_ptr<StepsStream> stream(new StepsStream(loop));
  stream->self_ = stream;
  std::lock_guard lock(stream->mutex_);
  stream->ReadNext();
  return stream;
}

void StepsStream::ReadNext() {
  if (reading_ || finished_ || outstanding_ >= kMaxOutstanding) return;
  reading_ = true;
  StartRead(&request_);
}

void StepsStream::WriteNext() {
  if (writing_ || finished_ || results_.empty()) return;
  writing_ = true;
  StartWrite(&results_.front());
}

void StepsStream::OnReadDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
  }
  if (!ok) {
    End(grpc::Status::OK);
    return;
  }
  // A reference of its own: results may come before Enqueue returns, and the stream may end
  // meanwhile.
  std::shared_ptr<StepsStream> self = self_;
  if (request_.has_step()) {
    {
      std::lock_guard lock(mutex_);
      ++outstanding_;
    }
    std::unique_ptr<StepJob> job = loop_.NewJob();
    FromProto(request_.step(), &job->plan);
    job->sink = self;
    loop_.Enqueue(std::move(job));
  } else if (request_.has_abort()) {
    loop_.Abort(request_.abort().generation(), request_.abort().reason());
  } else {
    End({grpc::StatusCode::INVALID_ARGUMENT,
         "StepRequest: expected a step or an abort, found neither"});
    return;
  }
  std::lock_guard lock(mutex_);
  request_.Clear();
  // Only now: until here request_ was in use, and a result's OnWriteDone may start the next read.
  reading_ = false;
  ReadNext();
}

void StepsStream::OnResult(const StepResult& result) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  ToProto(result, &results_.emplace_back());
  WriteNext();
}

void StepsStream::OnWriteDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    results_.pop_front();
    --outstanding_;
    if (finished_) return;
    if (ok) {
      WriteNext();
      ReadNext();
      return;
    }
  }
  End({grpc::StatusCode::UNAVAILABLE, "writing a result failed"});
}

void StepsStream::End(grpc::Status status) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    finished_ = true;
    Finish(std::move(status));
  }
  loop_.AbortFor(this, "the stream of steps ended");
}

void StepsStream::OnCancel() { End({grpc::StatusCode::CANCELLED, "cancelled by the client"}); }

void StepsStream::OnDone() {
  // The loop's queue may hold the last references; without steps of ours this deletes the stream.
  std::shared_ptr<StepsStream> self = std::move(self_);
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

  grpc::ServerUnaryReactor* Trace(grpc::CallbackServerContext* context,
                                  const v1::ProcessTraceRequest* request,
                                  v1::ProcessTrace* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    engine_.Trace(request->next(), reply);
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* context, const v1::MetricsRequest*,
                                    v1::MetricsText* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reply->set_text(WorkerMetricsText(engine_));
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

  grpc::ServerUnaryReactor* MeasureStages(grpc::CallbackServerContext* context,
                                          const v1::MeasureStagesRequest* request,
                                          v1::StageCosts* reply) override {
    const absl::Status announced = engine_.Announce(*request);
    if (!announced.ok()) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(ToGrpc(announced));
      return reactor;
    }
    return Post(context, [this, request, reply] { return engine_.MeasureStages(*request, reply); });
  }

  grpc::ServerUnaryReactor* RepeatStages(grpc::CallbackServerContext* context,
                                         const v1::RepeatStagesRequest* request,
                                         v1::StageCosts* reply) override {
    return Post(context, [this, request, reply] { return engine_.RepeatStages(*request, reply); });
  }

  grpc::ServerUnaryReactor* MeasureEdges(grpc::CallbackServerContext* context,
                                         const v1::MeasureEdgesRequest* request,
                                         v1::EdgeCosts* reply) override {
    return Post(context, [this, request, reply] { return engine_.MeasureEdges(*request, reply); });
  }

  grpc::ServerUnaryReactor* Connect(grpc::CallbackServerContext* context,
                                    const v1::ConnectRequest* request,
                                    v1::ConnectResponse* reply) override {
    return Post(context, [this, request, reply] { return engine_.Connect(*request, reply); });
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request, v1::DrainResponse*) override {
    return Post(context, [this, generation = request->generation()] {
      engine_.Drain(generation);
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
  // Last: its tasks use the engine.
  ControlThread control_;
};

WorkerService::WorkerService(WorkerEngine& engine) : impl_(std::make_unique<Impl>(engine)) {}
WorkerService::~WorkerService() = default;
grpc::Service* WorkerService::service() { return impl_.get(); }
void WorkerService::EndStreams() { impl_->EndStreams(); }

}  // namespace tandem
