#include "gateway/dispatch/process_metrics.h"

#include <map>
#include <utility>

#include "gateway/dispatch/links.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Less than what Prometheus gives a scrape, so that it hears why it failed.
constexpr absl::Duration kPatience = absl::Seconds(3);
constexpr int kMostPageBytes = 8 << 20;
constexpr char kLoader[] = "loader";

struct Call {
  std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
  v1::MetricsRequest request;
  v1::MetricsText text;
  ProcessMetrics::Done done;
  std::unique_ptr<CallSet::Ticket> ticket;
};

}  // namespace

struct ProcessMetrics::Impl {
  explicit Impl(const std::string& loader_address)
      : loader(v1::Loader::NewStub(OpenChannel(loader_address, kMostPageBytes))) {}

  std::unique_ptr<v1::Loader::Stub> loader;
  std::map<std::string, std::unique_ptr<v1::Worker::Stub>> workers;
  // Last: its end waits for the calls.
  CallSet calls;
};

ProcessMetrics::ProcessMetrics(const std::string& loader_address,
                               const std::vector<ClusterWorker>& workers)
    : processes_({{kLoader, kLoader}}), impl_(std::make_unique<Impl>(loader_address)) {
  for (const ClusterWorker& worker : workers) {
    processes_.push_back({worker.name, std::string(NameOf(worker.role))});
    impl_->workers.emplace(worker.name,
                           v1::Worker::NewStub(OpenChannel(worker.address, kMostPageBytes)));
  }
}

ProcessMetrics::~ProcessMetrics() = default;

void ProcessMetrics::Read(const std::string& process, Done done) {
  const auto worker = impl_->workers.find(process);
  if (worker == impl_->workers.end() && process != kLoader) {
    return done(absl::NotFoundError(Cat("no process '", process, "' is in this cluster")));
  }
  auto call = std::make_shared<Call>();
  SetDeadline(*call->context, kPatience);
  call->done = std::move(done);
  call->ticket = impl_->calls.Add(call->context);
  auto finish = [call](grpc::Status status) {
    if (status.ok()) {
      call->done(std::move(*call->text.mutable_text()));
    } else {
      call->done(FromGrpc(status));
    }
    call->context.reset();
    call->ticket.reset();
  };
  if (worker != impl_->workers.end()) {
    worker->second->async()->Metrics(call->context.get(), &call->request, &call->text,
                                     std::move(finish));
  } else {
    impl_->loader->async()->Metrics(call->context.get(), &call->request, &call->text,
                                    std::move(finish));
  }
}

}  // namespace tandem
