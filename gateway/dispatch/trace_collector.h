#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gateway/dispatch/cluster.h"
#include "lib/base/trace.h"
#include "tandem/v1/trace.pb.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {

// What gateway and workers did and when, on the gateway's clock (`tandem trace`). It has
// connections of its own: what it reads does not stand before steps.
class TraceCollector {
 public:
  TraceCollector(const std::vector<ClusterWorker>& workers, std::string plan);

  // The engine thread records here. `index` of kResult: the worker's, in their order.
  TraceRecorder& own() { return own_; }

  // Any thread: the plan is another one now.
  void SetPlan(std::string plan);

  // Any thread; blocks for the workers' answers, a worker that is silent for two seconds is named
  // in `missing`. RESOURCE_EXHAUSTED while another thread reads.
  absl::Status Read(const v1::TraceRequest& request, v1::TraceResponse* response);

 private:
  struct Link {
    std::string name;
    bool same_host = false;
    std::unique_ptr<v1::Worker::Stub> stub;
  };
  absl::Status ReadWorker(Link& link, std::uint64_t next, v1::ProcessTrace* trace);

  std::mutex plan_mutex_;
  std::string plan_;
  TraceRecorder own_;
  std::mutex mutex_;
  std::vector<Link> links_;
};

}  // namespace tandem
