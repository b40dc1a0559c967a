#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <vector>

#include "gateway/ingress/grpc/server_call.h"

namespace tandem {

class HealthCall;

// Where a watching call is found until it is done.
struct HealthWatch {
  std::mutex mutex;
  HealthCall* call = nullptr;  // null once the call is done
};

// gRPC's health protocol for "" and "tandem.v1.Inference", which nobody needs a key for. gRPC's own
// service gives every caller the memory and the time for a message of any length, and holds up the
// server's end for those who watch. Thread-safe.
class HealthService final : public grpc::Service {
 public:
  // `host` outlives the service.
  explicit HealthService(CallHost& host);

  void Set(bool serving);
  // Not serving any more; calls that watch end.
  void End();

  // For the calls.
  bool serving() const;
  // False: the end has begun.
  bool Add(const std::shared_ptr<HealthWatch>& watch);

 private:
  std::vector<std::shared_ptr<HealthWatch>> Watches();

  mutable std::mutex mutex_;
  bool serving_ = false;
  bool ended_ = false;
  std::vector<std::weak_ptr<HealthWatch>> watches_;
};

}  // namespace tandem
