#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tandem/v1/loader.grpc.pb.h"
#include "tandem/v1/worker.grpc.pb.h"

// The gateway's ends of the other processes: calls, the stream of steps, the loader's progress.
namespace tandem {

absl::Status FromGrpc(const grpc::Status& status);

// A channel to a process of the cluster: plain text, quick to reconnect, `max_message_bytes` to
// receive.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, int max_message_bytes);

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout);

// Calls under way, so that they can be cancelled together and waited for. A callback lets go of its
// context and then of its ticket: the set holds the last reference, so the context, which keeps the
// channel, is gone before Finish returns. (gRPC aborts when one of its callback threads destroys
// the last channel.) Thread-safe. Cancelling may run a call's callback in the calling thread: hold
// no lock that it takes.
class CallSet {
 public:
  CallSet() = default;
  ~CallSet() { Finish(); }
  CallSet(const CallSet&) = delete;
  CallSet& operator=(const CallSet&) = delete;

  // `context` is in the set until the ticket dies. After Finish has begun the context comes
  // cancelled.
  class Ticket {
   public:
    Ticket(CallSet* set, std::uint64_t id) : set_(set), id_(id) {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() { set_->Remove(id_); }

   private:
    CallSet* set_;
    std::uint64_t id_;
  };
  std::unique_ptr<Ticket> Add(std::shared_ptr<grpc::ClientContext> context);

  void CancelAll();
  // Cancels all, now and later, and waits until the set is empty.
  void Finish();

 private:
  void Remove(std::uint64_t id);

  std::mutex mutex_;
  std::condition_variable empty_;
  std::uint64_t next_id_ = 0;
  bool finishing_ = false;
  std::map<std::uint64_t, std::shared_ptr<grpc::ClientContext>> contexts_;
};

// One Steps stream to one worker. Send and Close: one thread. The handlers run on gRPC's threads:
// on_result for every message, then on_end once, when the stream has broken or was closed. The
// object lives until gRPC has let go of it, whoever else drops it.
class StepStream final : public grpc::ClientBidiReactor<v1::StepRequest, v1::StepResult>,
                         public std::enable_shared_from_this<StepStream> {
 public:
  struct Handlers {
    std::function<void(const v1::StepResult& result)> on_result;
    // nothing more will come; the reason, where there is one, goes to the log
    std::function<void()> on_end;
  };
  static std::shared_ptr<StepStream> Open(v1::Worker::Stub& stub, CallSet& calls,
                                          Handlers handlers);

  void Send(v1::StepRequest request);
  // Cancels the stream; the worker aborts what runs. Once, last.
  void Close();

 private:
  explicit StepStream(Handlers handlers) : handlers_(std::move(handlers)) {}
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  Handlers handlers_;
  std::shared_ptr<grpc::ClientContext> context_ = std::make_shared<grpc::ClientContext>();
  std::unique_ptr<CallSet::Ticket> ticket_;
  // Until OnDone.
  std::shared_ptr<StepStream> self_;
  v1::StepResult incoming_;
  v1::StepRequest outgoing_;
  std::mutex mutex_;
  // Guarded, as is the queue: one write at a time is gRPC's rule.
  bool writing_ = false;
  std::deque<v1::StepRequest> queue_;
};

// The gateway's end of one worker. Methods: one thread (the engine's; Ask and those that measure
// any). Callbacks run on gRPC's threads, perhaps before the method returns, and never after
// Shutdown.
class WorkerLink {
 public:
  WorkerLink(std::string name, std::string address);
  ~WorkerLink() { Shutdown(); }

  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }

  template <typename Response>
  using Done = std::function<void(const absl::Status& status, const Response& response)>;
  // Of a round: Abandon ends them.
  void Describe(absl::Duration timeout, Done<v1::WorkerDescription> done);
  void Prepare(v1::PrepareRequest request, absl::Duration timeout, Done<v1::PrepareResponse> done);
  void Connect(v1::ConnectRequest request, absl::Duration timeout, Done<v1::ConnectResponse> done);

  // Whatever becomes of the round. Ask is another Describe.
  void Ask(absl::Duration timeout, Done<v1::WorkerDescription> done);
  void MeasureStages(v1::MeasureStagesRequest request, absl::Duration timeout,
                     Done<v1::StageCosts> done);
  void RepeatStages(v1::RepeatStagesRequest request, absl::Duration timeout,
                    Done<v1::StageCosts> done);
  void MeasureEdges(v1::MeasureEdgesRequest request, absl::Duration timeout,
                    Done<v1::EdgeCosts> done);
  // A stream of steps to a worker that has measured its stages; whoever asked for it closes it.
  std::shared_ptr<StepStream> MeasureSteps(StepStream::Handlers handlers);
  // Nobody waits for the answer.
  void Drain(std::uint64_t generation, absl::Duration timeout);

  void OpenSteps(StepStream::Handlers handlers);
  // After OpenSteps.
  void Send(v1::StepRequest request);

  // Cancels the round's calls and the stream.
  void Abandon();
  // Cancels every call, now and later, and waits until the last callback is over.
  void Shutdown();

 private:
  void CloseSteps();

  std::string name_;
  std::string address_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::shared_ptr<StepStream> steps_;
  CallSet round_calls_;
  CallSet other_calls_;
};

// The gateway's end of the loader. One thread at a time.
class LoaderLink {
 public:
  explicit LoaderLink(const std::string& address);
  ~LoaderLink() { Stop(); }

  // Blocks until the loader answers; when there is none, until the timeout.
  absl::StatusOr<v1::Model> GetModel(absl::Duration timeout);

  // What Prepare needs of a loader that is ready.
  struct Loaded {
    std::string fingerprint;
    std::string region_socket;
    std::vector<v1::RegionManifest> regions;
  };
  struct Handlers {
    // "loading 42 %"
    std::function<void(std::string text)> on_progress;
    // once
    std::function<void(absl::StatusOr<Loaded> loaded)> on_done;
  };
  // Waits in a thread of its own until the loader is ready, then fetches the manifests of
  // `regions`. Ends a Load that still runs (its on_done comes first). Handlers run on that thread.
  void Load(std::vector<std::string> regions, absl::Duration timeout, Handlers handlers);
  // Ends a Load that runs and waits for its on_done.
  void Stop();

 private:
  absl::StatusOr<Loaded> Run(const std::vector<std::string>& regions, absl::Duration timeout,
                             const Handlers& handlers);
  absl::Status WaitUntilReady(absl::Duration timeout, const Handlers& handlers);

  std::unique_ptr<v1::Loader::Stub> stub_;
  // Of the Load that runs.
  std::unique_ptr<CallSet> calls_;
  std::thread thread_;
};

// "loading 42 %, 12 s left".
std::string ProgressText(const v1::LoadProgress& progress);

}  // namespace tandem
