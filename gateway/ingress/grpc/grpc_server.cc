#include "gateway/ingress/grpc/grpc_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>
#include <malloc.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gateway/ingress/grpc/grpc_listener.h"
#include "gateway/ingress/grpc/health_service.h"
#include "gateway/ingress/grpc/inference_service.h"
#include "gateway/ingress/grpc/reflection_service.h"
#include "gateway/ingress/grpc/server_call.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/tls/grpc_credentials.h"

namespace tandem {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(200);
constexpr int kPeriodsBetweenReturns = 25;
constexpr std::size_t kMuchFreeMemory = 32 << 20;
constexpr int kMaxMetadataBytes = 16 << 10;
// A peer may ping this often; more is taken for an attack.
constexpr absl::Duration kMinPingPeriod = absl::Seconds(10);

// One thread: runs what is posted, and looks at timers now and then. What waits is
// bounded by the number of calls: each posts again only after it was run.
class Pump {
 public:
  explicit Pump(std::function<void()> every_period) : every_period_(std::move(every_period)) {
    thread_ = std::thread([this] { Run(); });
  }
  ~Pump() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  void Post(std::function<void()> work) {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }

 private:
  void Run() {
    absl::Time next = absl::Now();
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      if (!work_.empty()) {
        std::function<void()> work = std::move(work_.front());
        work_.pop_front();
        lock.unlock();
        work();
        lock.lock();
        continue;
      }
      const absl::Time now = absl::Now();
      if (now >= next) {
        next = now + kPeriod;
        lock.unlock();
        every_period_();
        lock.lock();
        continue;
      }
      changed_.wait_for(lock, absl::ToChronoNanoseconds(next - now));
    }
  }

  const std::function<void()> every_period_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool stopping_ = false;
  std::thread thread_;
};

// What large messages took stays with the allocator, in pieces that suit nobody else. Gives it back
// to the system where it is much.
void ReturnFreeMemory() {
  if (mallinfo2().fordblks > kMuchFreeMemory) malloc_trim(0);
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

void SetLimits(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetResourceQuota(grpc::ResourceQuota("gateway").Resize(options.max_memory_bytes));
  // A small compressed message may stand for one of any size.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  const std::pair<const char*, int> arguments[] = {
      {GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection},
      {GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes},
      // Streams of which nothing is asked for hold no more than their first window.
      {GRPC_ARG_HTTP2_BDP_PROBE, 0},
      {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, Milliseconds(options.handshake_timeout)},
      {GRPC_ARG_MAX_CONNECTION_IDLE_MS, Milliseconds(options.idle_timeout)},
      {GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(options.max_age)},
      {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, Milliseconds(options.max_age_grace)},
      {GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_period)},
      {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(options.keepalive_timeout)},
      {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
      {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, Milliseconds(kMinPingPeriod)}};
  for (const auto& [name, value] : arguments) builder.AddChannelArgument(name, value);
}

}  // namespace

struct GrpcServer::Impl {
  Impl(GrpcBackend given, const GrpcServerOptions& limits)
      : backend(std::move(given)), options(limits), host(backend, options) {
    host.post = [this](std::function<void()> work) { pump->Post(std::move(work)); };
  }

  void UpdateHealth();

  const GrpcBackend backend;
  const GrpcServerOptions options;
  CallHost host;
  InferenceService service{host};
  ReflectionService reflection{host};
  HealthService health{host};
  std::unique_ptr<GrpcListener> listener;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;
  // Of the pump alone: as last reported, and its periods.
  std::optional<bool> healthy;
  int periods = 0;
  std::unique_ptr<Pump> pump;
};

void GrpcServer::Impl::UpdateHealth() {
  const auto serving = backend.serving->Get();
  const bool now = serving.ok() && (*serving)->engine->Ready().ok();
  if (healthy == now) return;
  healthy = now;
  health.Set(now);
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const ListenAddress& address,
                                                              const GrpcServerOptions& options,
                                                              GrpcBackend backend) {
  auto impl = std::make_unique<Impl>(std::move(backend), options);
  TANDEM_ASSIGN_OR_RETURN(
      impl->listener,
      GrpcListener::Listen(address, {.connections = options.max_connections,
                                     .connections_per_peer = options.max_connections_per_peer}));
  impl->host.listener = impl->listener.get();
  impl->pump = std::make_unique<Pump>([raw = impl.get()] {
    raw->host.timers.Look();
    if (++raw->periods % kPeriodsBetweenReturns == 0) ReturnFreeMemory();
  });
  grpc::ServerBuilder builder;
  impl->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      options.tls != nullptr ? options.tls->Server() : grpc::InsecureServerCredentials());
  builder.RegisterService(&impl->service);
  builder.RegisterService(&impl->reflection);
  builder.RegisterService(&impl->health);
  // Instead of gRPC's own.
  builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  SetLimits(options, builder);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) {
    return absl::InternalError(Cat("gRPC does not start on ", address.ToString()));
  }
  impl->listener->Serve([acceptor = impl->acceptor.get()](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  });
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(impl)));
  server->LookAtHealth();
  return server;
}

std::string GrpcServer::address() const { return impl_->listener->address().ToString(); }

void GrpcServer::LookAtHealth() {
  impl_->pump->Post([raw = impl_.get()] { raw->UpdateHealth(); });
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (impl_->server == nullptr) return;
  impl_->listener->Stop();
  impl_->health.End();
  impl_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  impl_->server->Wait();
  impl_->host.Join();
  impl_->pump.reset();
  impl_->server.reset();
}

}  // namespace tandem
