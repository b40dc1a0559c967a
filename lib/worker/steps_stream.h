#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <mutex>

#include "lib/worker/step_loop.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

// One Steps stream: reads requests into the step loop, writes results back. Owns itself until
// OnDone; others hold weak references.
class StepsStream final : public grpc::ServerBidiReactor<v1::StepRequest, v1::StepResult>,
                          public StepSink {
 public:
  static std::shared_ptr<StepsStream> Create(StepLoop& loop);

  void OnResult(v1::StepResult result) override;
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

}  // namespace tandem
