#include "gateway/dispatch/trace_collector.h"
#include "lib/tls/cluster_tls.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "lib/wire/trace_wire.h"

namespace tandem {
namespace {

constexpr std::chrono::seconds kPatience{2};
constexpr char kGateway[] = "gateway";

std::uint64_t NextOf(const v1::TraceRequest& request, const std::string& process) {
  const auto found = request.next().find(process);
  return found == request.next().end() ? 0 : found->second;
}

}  // namespace

TraceCollector::TraceCollector(const std::vector<ClusterWorker>& workers, std::string plan)
    : plan_(std::move(plan)) {
  for (const ClusterWorker& worker : workers) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    links_.push_back({worker.name, worker.address.rfind("unix:", 0) == 0,
                      v1::Worker::NewStub(grpc::CreateCustomChannel(
                          worker.address, ClusterChannelCredentials(worker.address), arguments))});
  }
}

absl::Status TraceCollector::ReadWorker(Link& link, std::uint64_t next, v1::ProcessTrace* trace) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  v1::ProcessTraceRequest request;
  request.set_next(next);
  const std::int64_t sent = MonotonicNanoseconds();
  const grpc::Status status = link.stub->Trace(&context, request, trace);
  const std::int64_t received = MonotonicNanoseconds();
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }
  trace->set_process(link.name);
  trace->set_round_trip_ns(received - sent);
  // Its clock was read between the two moments here. Where that may have been on this very clock
  // (the same host, reached through TCP) it is taken for the same.
  const bool may_be_same = trace->clock_ns() >= sent && trace->clock_ns() <= received;
  trace->set_offset_ns(
      link.same_host || may_be_same ? 0 : sent + (received - sent) / 2 - trace->clock_ns());
  return absl::OkStatus();
}

void TraceCollector::SetPlan(std::string plan) {
  const std::lock_guard<std::mutex> lock(plan_mutex_);
  plan_ = std::move(plan);
}

absl::Status TraceCollector::Read(const v1::TraceRequest& request, v1::TraceResponse* response) {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock())
    return absl::ResourceExhaustedError("the trace is being read by somebody else");
  {
    const std::lock_guard<std::mutex> plan_lock(plan_mutex_);
    response->set_plan(plan_);
  }
  v1::ProcessTrace* const own = response->add_processes();
  own->set_process(kGateway);
  for (Link& link : links_) {
    own->add_workers(link.name);
    v1::ProcessTrace trace;
    if (ReadWorker(link, NextOf(request, link.name), &trace).ok()) {
      *response->add_processes() = std::move(trace);
    } else {
      response->add_missing(link.name);
    }
  }
  ReadTrace(own_, NextOf(request, kGateway), response->mutable_processes(0));
  return absl::OkStatus();
}

}  // namespace tandem
