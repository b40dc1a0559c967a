#pragma once

#include <memory>

#include "lib/worker/worker_engine.h"

namespace grpc {
class Service;
}

namespace tandem {

// tandem.v1.Worker over an engine. Blocking calls (Prepare, Connect, Drain, those that measure) run
// on a thread of the shell's own, one after another, at most kMaxPendingCalls waiting. Destroy the
// server that it is registered with first, then this, then the engine.
class WorkerService {
 public:
  static constexpr std::size_t kMaxPendingCalls = 16;

  explicit WorkerService(WorkerEngine& engine);
  ~WorkerService();

  grpc::Service* service();
  // Ends all streams, so that the server can shut down at once.
  void EndStreams();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
