// tandem-gateway: opens the public ports, then brings the cluster up behind them.

#include <malloc.h>
#include <poll.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gateway/access_log.h"
#include "gateway/dispatch/cluster.h"
#include "gateway/dispatch/process_metrics.h"
#include "gateway/gateway_flags.h"
#include "gateway/ingress/allowed_hosts.h"
#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/cors.h"
#include "gateway/ingress/doors/door.h"
#include "gateway/ingress/grpc/grpc_server.h"
#include "gateway/ingress/http/http_server.h"
#include "gateway/ingress/router.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/sandbox/sandbox.h"
#include "lib/service/file_watch.h"
#include "lib/service/listen_address.h"
#include "lib/service/process.h"
#include "lib/telemetry/span_exporter.h"
#include "lib/text/tokenizer.h"
#include "lib/tls/certificates.h"
#include "lib/tls/cluster_tls.h"
#include "lib/tls/grpc_credentials.h"

namespace tandem {
namespace {

constexpr char kProgram[] = "tandem-gateway";

// Heaps that its threads share. With glibc's own number, 8 for each processor, every thread that
// takes part in a worker's return leaves a heap as large as its largest moment.
constexpr int kMallocArenas = 2;

// All parts in the order in which they need each other: destroyed from the end.
class Gateway {
 public:
  Gateway(GatewayFlags flags, StopSignals signals)
      : flags_(std::move(flags)), signals_(std::move(signals)) {}
  ~Gateway();
  absl::Status Run();

 private:
  absl::Status ReadSecrets();
  void ReloadKeys();
  absl::StatusOr<std::unique_ptr<GrpcServer>> StartGrpc(const ListenAddress& address,
                                                        const GrpcServerOptions& options,
                                                        const ApiKeys& keys);
  WatchSources MakeWatchSources();
  absl::Status OpenHttp(const PortGuards& guards);
  absl::Status OpenPorts();
  absl::Status StartCluster(ClusterOptions options);
  absl::Status Serve();
  std::shared_ptr<Cluster> CurrentCluster();
  ClusterStatus Status();

  const GatewayFlags flags_;
  const GatewaySettings& settings_ = flags_.settings;
  const StopSignals signals_;
  // Readable when the cluster's state has changed.
  const UniqueFd state_changed_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  ApiKeys keys_;
  const ApiKeys no_keys_;
  std::optional<FileWatch> key_watch_;
  std::unique_ptr<GrpcCredentials> grpc_credentials_;
  std::unique_ptr<Certificates> certificates_;
  ServingSlot serving_;
  SpanExporter spans_;
  IngressMetrics metrics_{registry_};
  Router router_{
      DoorServices{.serving = serving_,
                   .metrics = metrics_,
                   .keys = keys_,
                   .read = {.ignore_unknown = settings_.unknown_fields == UnknownFields::kIgnore,
                            .max_depth = settings_.clients.max_json_depth},
                   .spans = &spans_}};
  std::mutex mutex_;
  std::shared_ptr<Cluster> cluster_;  // guarded while it is being set
  std::unique_ptr<ProcessMetrics> process_metrics_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<GrpcServer> local_;
  std::optional<ReadyFile> ready_file_;
};

Gateway::~Gateway() {
  ready_file_.reset();
  std::thread http([this] {
    if (http_ != nullptr) http_->Shutdown(settings_.shutdown_grace);
  });
  std::thread local([this] {
    if (local_ != nullptr) local_->Shutdown(settings_.shutdown_grace);
  });
  if (grpc_ != nullptr) grpc_->Shutdown(settings_.shutdown_grace);
  local.join();
  http.join();
}

// Keys and certificates; both are read again when their files change.
absl::Status Gateway::ReadSecrets() {
  TANDEM_RETURN_IF_ERROR(UseClusterTls(flags_.tls));
  if (!settings_.api_key_file.empty()) {
    // First the watch: what changes meanwhile is read once more.
    TANDEM_ASSIGN_OR_RETURN(FileWatch watch,
                            FileWatch::Start({settings_.api_key_file}, [this] { ReloadKeys(); }));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<ApiKeyRule> rules,
                            NeedKeyRules(settings_.api_key_file));
    keys_.Replace(rules);
    key_watch_.emplace(std::move(watch));
  }
  const TlsFiles files{.certificate = settings_.tls_cert,
                       .key = settings_.tls_key,
                       .authorities = settings_.tls_client_ca};
  if (!files.set()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Certificates>> certificates = Certificates::Open(files);
  if (!certificates.ok()) return Annotate(certificates.status(), "--tls_cert");
  certificates_ = *std::move(certificates);
  TANDEM_ASSIGN_OR_RETURN(grpc_credentials_, GrpcCredentials::Create(*certificates_));
  return absl::OkStatus();
}

// A file that cannot be understood changes nothing; one without a key lets nobody in.
void Gateway::ReloadKeys() {
  const absl::StatusOr<std::vector<ApiKeyRule>> rules = ReadKeyRules(settings_.api_key_file);
  if (!rules.ok()) {
    spdlog::error("the keys stay as they were: {}", std::string(rules.status().message()));
    return;
  }
  keys_.Replace(*rules);
  spdlog::info("API key file '{}' was read again: {} keys", settings_.api_key_file, rules->size());
}

absl::StatusOr<std::unique_ptr<GrpcServer>> Gateway::StartGrpc(const ListenAddress& address,
                                                               const GrpcServerOptions& options,
                                                               const ApiKeys& keys) {
  GrpcBackend backend{.serving = &serving_, .keys = &keys, .metrics = &metrics_, .status = [this] {
                        return Status();
                      }};
  backend.spans = &spans_;
  backend.trace = [this](const v1::TraceRequest& request, v1::TraceResponse* response) {
    const std::shared_ptr<Cluster> cluster = CurrentCluster();
    return cluster != nullptr ? cluster->Trace(request, response)
                              : absl::UnavailableError("waiting for the loader");
  };
  backend.change_plan = [this](const std::string& plan) -> absl::StatusOr<std::uint64_t> {
    const std::shared_ptr<Cluster> cluster = CurrentCluster();
    if (cluster == nullptr) return absl::UnavailableError("waiting for the loader");
    return cluster->ChangePlan(plan);
  };
  backend.plan_report = [this] {
    const std::shared_ptr<Cluster> cluster = CurrentCluster();
    return cluster != nullptr ? cluster->Report() : PlanReport();
  };
  return GrpcServer::Start(address, options, std::move(backend));
}

// Once the cluster's certificates are known.
WatchSources Gateway::MakeWatchSources() {
  process_metrics_ = std::make_unique<ProcessMetrics>(flags_.loader, flags_.workers);
  WatchSources sources;
  sources.status = [this] { return Status(); };
  for (const ProcessMetrics::Process& process : process_metrics_->processes())
    sources.processes.push_back({process.name, process.role});
  sources.process_page = [this](const std::string& process, ProcessMetrics::Done done) {
    process_metrics_->Read(process, std::move(done));
  };
  return sources;
}

absl::Status Gateway::OpenHttp(const PortGuards& guards) {
  TANDEM_ASSIGN_OR_RETURN(const ListenAddress address,
                          CheckedListenAddress("--http", settings_.http, guards));
  absl::StatusOr<AllowedHosts> hosts = AllowedHosts::Create(address, settings_.allowed_hosts);
  if (!hosts.ok()) return Annotate(hosts.status(), "--allowed_hosts");
  router_.SetHosts(*std::move(hosts));
  absl::StatusOr<CorsRules> cors = CorsRules::Create(settings_.cors_origins);
  if (!cors.ok()) return Annotate(cors.status(), "--cors_origins");
  router_.SetCors(*std::move(cors));
  const ClientLimits& limits = settings_.clients;
  HttpServerOptions options;
  options.max_body_bytes = limits.max_body;
  options.max_body_memory = std::max(options.max_body_memory, options.max_body_bytes);
  options.max_header_bytes = limits.max_head;
  options.max_connections = static_cast<std::size_t>(limits.max_connections);
  options.max_connections_per_peer = static_cast<std::size_t>(limits.max_connections_per_client);
  options.header_timeout = limits.head_timeout;
  options.body_timeout = limits.body_timeout;
  options.write_timeout = limits.write_timeout;
  options.idle_timeout = limits.idle_timeout;
  options.tls = certificates_.get();
  AddAccessLog(settings_, &options);
  router_.SetWatchSources(MakeWatchSources());
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(address, options, router_);
  if (!server.ok()) return Annotate(server.status(), "--http");
  http_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status Gateway::OpenPorts() {
  TANDEM_RETURN_IF_ERROR(ReadSecrets());
  if (!settings_.otlp_endpoint.empty()) {
    TANDEM_RETURN_IF_ERROR(
        Annotate(spans_.Start(settings_.otlp_endpoint, registry_), "--otlp_endpoint"));
  }
  const PortGuards guards{
      .api_key = keys_.required(), .tls = certificates_ != nullptr, .insecure = settings_.insecure};
  TANDEM_ASSIGN_OR_RETURN(const ListenAddress grpc,
                          CheckedListenAddress("--grpc", settings_.grpc, guards));
  TANDEM_RETURN_IF_ERROR(OpenHttp(guards));
  const ClientLimits& limits = settings_.clients;
  GrpcServerOptions options;
  options.max_message_bytes = static_cast<int>(limits.max_body);
  options.max_memory_bytes = std::max<std::size_t>(options.max_memory_bytes, limits.max_body);
  options.max_request_memory = std::max<std::size_t>(options.max_request_memory, limits.max_body);
  options.max_connections = static_cast<std::size_t>(limits.max_connections);
  options.max_connections_per_peer = static_cast<std::size_t>(limits.max_connections_per_client);
  options.read_timeout = limits.head_timeout;
  options.write_timeout = limits.write_timeout;
  options.tls = grpc_credentials_.get();
  AddAccessLog(settings_, &options);
  absl::StatusOr<std::unique_ptr<GrpcServer>> server = StartGrpc(grpc, options, keys_);
  if (!server.ok()) return Annotate(server.status(), "--grpc");
  grpc_ = *std::move(server);
  nlohmann::json addresses = {{"http", http_->address()}, {"grpc", grpc_->address()}};
  if (!flags_.local_socket.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const ListenAddress local,
                            ParseListenAddress(Cat("unix:", flags_.local_socket)));
    server = StartGrpc(local, {}, no_keys_);
    if (!server.ok()) return Annotate(server.status(), "--local_socket");
    local_ = *std::move(server);
    addresses["local"] = local_->address();
  }
  spdlog::info("HTTP{} on {}, gRPC on {}", guards.tls ? "S" : "", http_->address(),
               grpc_->address());
  TANDEM_ASSIGN_OR_RETURN(ReadyFile ready,
                          ReadyFile::Write(flags_.ready_file, addresses.dump() + "\n"));
  ready_file_.emplace(std::move(ready));
  return absl::OkStatus();
}

std::shared_ptr<Cluster> Gateway::CurrentCluster() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return cluster_;
}

ClusterStatus Gateway::Status() {
  const std::shared_ptr<Cluster> cluster = CurrentCluster();
  ClusterStatus status;
  if (cluster != nullptr) {
    status = cluster->Status();
    // The name under which clients know it.
    if (const auto serving = serving_.Get(); serving.ok()) status.model = (*serving)->model.id;
    return status;
  }
  status.state = "starting";
  status.detail = "waiting for the loader";
  status.plan = settings_.plan;
  return status;
}

absl::Status Gateway::StartCluster(ClusterOptions options) {
  options.cancelled = [this] { return signals_.pending(); };
  options.spans = &spans_;
  options.on_state_change = [this] {
    const std::uint64_t one = 1;
    TANDEM_CHECK(write(state_changed_.get(), &one, sizeof(one)) == sizeof(one));
  };
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Cluster> started,
                          Cluster::Start(std::move(options), registry_));
  const std::shared_ptr<Cluster> cluster = std::move(started);
  const ServedModel& model = cluster->model();
  auto serving = std::make_shared<Serving>();
  serving->model.id = settings_.model_id.empty() ? model.config.name : settings_.model_id;
  if (serving->model.id.empty()) serving->model.id = "gemma-3";
  serving->model.created = absl::ToUnixSeconds(absl::Now());
  serving->model.weight_format = model.weight_format;
  TANDEM_ASSIGN_OR_RETURN(serving->model.tokenizer, Tokenizer::Create(model.vocabulary));
  serving->model.eos_ids = model.config.eos_ids;
  serving->engine = cluster.get();
  serving->limits = {.max_stops = settings_.clients.max_stops,
                     .max_choices = settings_.clients.max_choices,
                     .max_schema = settings_.clients.max_schema};
  spdlog::info("serving {} with a context of {} tokens", serving->model.id,
               cluster->limits().context_tokens);
  serving_.Set(std::move(serving));
  const std::lock_guard<std::mutex> lock(mutex_);
  cluster_ = cluster;
  return absl::OkStatus();
}

// Until a signal. A cluster that fails before it was ever ready is an error of the start.
absl::Status Gateway::Serve() {
  bool was_ready = false;
  pollfd entries[] = {{signals_.fd(), POLLIN, 0}, {state_changed_.get(), POLLIN, 0}};
  while (true) {
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
    if (entries[0].revents != 0) break;
    std::uint64_t count = 0;
    if (read(state_changed_.get(), &count, sizeof(count)) < 0) continue;
    for (const auto& server : {grpc_.get(), local_.get()}) {
      if (server != nullptr) server->LookAtHealth();
    }
    const ClusterStatus status = cluster_->Status();
    if (status.state == "failed" && !was_ready) return absl::UnavailableError(status.detail);
    if (status.state == "ready" && !was_ready) spdlog::info("ready");
    was_ready = was_ready || status.state == "ready";
  }
  spdlog::info("stopping");
  return absl::OkStatus();
}

absl::Status Gateway::Run() {
  if (!state_changed_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  TANDEM_ASSIGN_OR_RETURN(ClusterOptions options, MakeClusterOptions(flags_));
  if (flags_.sandbox.sandbox) TANDEM_RETURN_IF_ERROR(EnterSandbox(SandboxKind::kGateway));
  TANDEM_RETURN_IF_ERROR(OpenPorts());
  const absl::Status started = StartCluster(std::move(options));
  if (absl::IsCancelled(started) && signals_.pending()) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(started);
  return Serve();
}

int Run(GatewayFlags flags) {
  PrepareProcess("gateway", flags.log);
  absl::StatusOr<StopSignals> signals = StopSignals::Catch();
  absl::Status status = signals.status();
  if (status.ok()) status = FindCluster(&flags);
  if (status.ok()) status = Gateway(std::move(flags), *std::move(signals)).Run();
  return status.ok() ? 0 : FailStart(kProgram, status);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  // Before there are threads.
  mallopt(M_ARENA_MAX, tandem::kMallocArenas);
  tandem::GatewayFlags flags;
  tandem::FlagList list;
  tandem::AddFlags(&list, &flags);
  return tandem::RunProgram(
      {tandem::kProgram, "the public ports of a cluster: the OpenAI API over HTTP, and gRPC"}, argc,
      argv, list, [&] { return tandem::Run(std::move(flags)); });
}
