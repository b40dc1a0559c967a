// tandem-gateway: opens the public ports, then brings the cluster up behind them.

#include <poll.h>
#include <prometheus/registry.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gateway/dispatch/cluster.h"
#include "gateway/gateway_flags.h"
#include "gateway/ingress/allowed_hosts.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/grpc/grpc_server.h"
#include "gateway/ingress/http/http_server.h"
#include "gateway/ingress/listen_address.h"
#include "gateway/ingress/metrics.h"
#include "gateway/ingress/router.h"
#include "gateway/ingress/serving.h"
#include "lib/base/fd.h"
#include "lib/base/logging.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"
#include "lib/text/tokenizer.h"

namespace tandem {
namespace {

constexpr absl::Duration kPollPeriod = absl::Milliseconds(100);

// SIGTERM and SIGINT make this readable. A plain descriptor: signal handlers read it.
int stop_fd = -1;

void OnSignal(int) {
  const std::uint64_t one = 1;
  if (write(stop_fd, &one, sizeof(one)) < 0) return;  // nothing more a handler may do
}

bool StopAsked(absl::Duration wait) {
  pollfd entry{.fd = stop_fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(wait))) > 0;
}

absl::Status CatchSignals() {
  stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) return absl::InternalError("eventfd failed");
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return absl::OkStatus();
}

// Other processes wait for the file: it appears whole or not at all.
absl::Status WriteReadyFile(const std::string& path, const std::string& http,
                            const std::string& grpc) {
  if (path.empty()) return absl::OkStatus();
  const std::string temporary = Cat(path, ".", getpid());
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << nlohmann::json({{"http", http}, {"grpc", grpc}}).dump() << "\n";
    file.flush();
    if (!file) return absl::UnavailableError(Cat("--ready_file: cannot write ", temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    unlink(temporary.c_str());
    return absl::UnavailableError(Cat("--ready_file: cannot create ", path));
  }
  return absl::OkStatus();
}

// All parts in the order in which they need each other: destroyed from the end.
class Gateway {
 public:
  explicit Gateway(GatewayFlags flags) : flags_(std::move(flags)) {}
  ~Gateway();
  absl::Status Run();

 private:
  absl::Status OpenPorts();
  absl::Status StartCluster();
  absl::Status Serve();
  ClusterStatus Status();

  const GatewayFlags flags_;
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  ApiKeys keys_;
  ServingSlot serving_;
  IngressMetrics metrics_{registry_};
  Router router_{serving_, keys_, metrics_};
  std::mutex mutex_;
  std::shared_ptr<Cluster> cluster_;  // guarded while it is being set
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  bool wrote_ready_file_ = false;
};

Gateway::~Gateway() {
  if (wrote_ready_file_) unlink(flags_.ready_file.c_str());
  std::thread http([this] {
    if (http_ != nullptr) http_->Shutdown(flags_.shutdown_grace);
  });
  if (grpc_ != nullptr) grpc_->Shutdown(flags_.shutdown_grace);
  http.join();
}

absl::Status Gateway::OpenPorts() {
  if (!flags_.api_key_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(keys_, ApiKeys::ReadFile(flags_.api_key_file));
  }
  TANDEM_ASSIGN_OR_RETURN(const ListenAddress http,
                          CheckedListenAddress("--http", flags_.http, keys_.required()));
  TANDEM_ASSIGN_OR_RETURN(const ListenAddress grpc,
                          CheckedListenAddress("--grpc", flags_.grpc, keys_.required()));
  absl::StatusOr<AllowedHosts> hosts = AllowedHosts::Create(http, flags_.allowed_hosts);
  if (!hosts.ok()) return Annotate(hosts.status(), "--allowed_hosts");
  router_.SetHosts(*std::move(hosts));
  TANDEM_ASSIGN_OR_RETURN(http_, HttpServer::Start(http, HttpServerOptions{}, router_));
  GrpcBackend backend{.serving = &serving_, .keys = &keys_, .metrics = &metrics_, .status = [this] {
                        return Status();
                      }};
  TANDEM_ASSIGN_OR_RETURN(grpc_, GrpcServer::Start(grpc, GrpcServerOptions{}, std::move(backend)));
  spdlog::info("HTTP on {}, gRPC on {}", http_->address(), grpc_->address());
  TANDEM_RETURN_IF_ERROR(WriteReadyFile(flags_.ready_file, http_->address(), grpc_->address()));
  wrote_ready_file_ = !flags_.ready_file.empty();
  return absl::OkStatus();
}

ClusterStatus Gateway::Status() {
  std::shared_ptr<Cluster> cluster;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cluster = cluster_;
  }
  if (cluster != nullptr) return cluster->Status();
  ClusterStatus status;
  status.state = "starting";
  status.detail = "waiting for the loader";
  status.plan = flags_.cluster.plan;
  return status;
}

absl::Status Gateway::StartCluster() {
  ClusterOptions options = flags_.cluster;
  options.cancelled = [] { return StopAsked(absl::ZeroDuration()); };
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Cluster> started,
                          Cluster::Start(std::move(options), registry_));
  const std::shared_ptr<Cluster> cluster = std::move(started);
  const ServedModel& model = cluster->model();
  auto serving = std::make_shared<Serving>();
  serving->model.id = flags_.model_id.empty() ? model.config.name : flags_.model_id;
  if (serving->model.id.empty()) serving->model.id = "gemma-3";
  serving->model.created = absl::ToUnixSeconds(absl::Now());
  serving->model.weight_format = model.weight_format;
  serving->model.plan = model.plan.name;
  TANDEM_ASSIGN_OR_RETURN(serving->model.tokenizer, Tokenizer::Create(model.vocabulary));
  serving->engine = cluster.get();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cluster_ = cluster;
  }
  spdlog::info("serving {} with plan {} and a context of {} tokens", serving->model.id,
               serving->model.plan, cluster->limits().context_tokens);
  serving_.Set(std::move(serving));
  return absl::OkStatus();
}

// Until a signal. A cluster that fails before it was ever ready is an error of the start.
absl::Status Gateway::Serve() {
  bool was_ready = false;
  while (!StopAsked(kPollPeriod)) {
    if (was_ready) continue;
    was_ready = cluster_->Ready().ok();
    if (was_ready) spdlog::info("ready");
    const ClusterStatus status = cluster_->Status();
    if (status.state == "failed") return absl::UnavailableError(status.detail);
  }
  spdlog::info("stopping");
  return absl::OkStatus();
}

absl::Status Gateway::Run() {
  TANDEM_RETURN_IF_ERROR(CatchSignals());
  TANDEM_RETURN_IF_ERROR(OpenPorts());
  const absl::Status started = StartCluster();
  if (absl::IsCancelled(started) && StopAsked(absl::ZeroDuration())) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(started);
  return Serve();
}

int Main(int argc, char** argv) {
  absl::StatusOr<GatewayFlags> flags = ParseGatewayFlags(argc, argv);
  absl::Status status = flags.status();
  if (status.ok()) {
    InitLogging("gateway", flags->log_level);
    Gateway gateway(*std::move(flags));
    status = gateway.Run();
  }
  if (status.ok()) return 0;
  const std::string message(status.message());
  std::fprintf(stderr, "tandem-gateway: %s\n", message.c_str());
  return 1;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc, argv); }
