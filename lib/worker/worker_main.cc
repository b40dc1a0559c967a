#include "lib/worker/worker_main.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lib/base/logging.h"
#include "lib/worker/inline_edge.h"
#include "lib/worker/service.h"
#include "lib/worker/worker_engine.h"

namespace tandem {
namespace {

constexpr char kServiceName[] = "tandem.v1.Worker";
constexpr std::chrono::milliseconds kShutdownGrace{500};

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// The health service's view; probes may report before the server is up.
class Health {
 public:
  void Attach(grpc::HealthCheckServiceInterface* service) {
    service_.store(service);
    Set(serving_.load());
  }
  void Set(bool serving) {
    serving_.store(serving);
    grpc::HealthCheckServiceInterface* service = service_.load();
    if (service == nullptr) return;
    service->SetServingStatus(serving);
    service->SetServingStatus(kServiceName, serving);
  }

 private:
  std::atomic<bool> serving_{false};
  std::atomic<grpc::HealthCheckServiceInterface*> service_{nullptr};
};

// Readers see the whole file or none.
absl::Status WriteAtomically(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".", ::getpid());
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << text << std::flush;
    if (!out) return absl::UnavailableError(absl::StrCat("writing '", temporary, "' failed"));
  }
  if (::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("renaming '", temporary, "' to '", path, "'"));
}

std::string ActualAddress(const std::string& listen, int port) {
  if (absl::StartsWith(listen, "unix:")) return listen;
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

WorkerEngine::Options EngineOptions(const WorkerFlags& options, Health& health) {
  WorkerEngine::Options engine;
  engine.name = options.name;
  engine.role = options.role;
  engine.fd_socket = options.fd_socket;
  engine.on_health = [&health](bool serving) { health.Set(serving); };
  engine.on_device_lost = [name = options.name](const absl::Status& status) {
    spdlog::critical("worker {}: the device is lost, nothing more can be served: {}", name,
                     status.ToString());
    // No destructors: they would wait for a device that does not answer.
    ::_exit(kExitDeviceLost);
  };
  return engine;
}

std::unique_ptr<grpc::Server> StartServer(const std::string& listen, WorkerService& service,
                                          int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), port);
  builder.RegisterService(service.service());
  builder.SetMaxReceiveMessageSize(kMaxFrameBytes);
  builder.SetMaxSendMessageSize(kMaxFrameBytes);
  // Two programs on one address would answer in turns.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  return builder.BuildAndStart();
}

}  // namespace

void PrepareWorkerProcess(const std::string& role, const std::string& log_level) {
  InitLogging(absl::StrCat(role, "-worker"), log_level);
  ::umask(0077);
  const sigset_t stop = StopSignals();
  ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

int FailStart(const absl::Status& status) {
  spdlog::error("{}", std::string(status.message()));
  return kExitBadStart;
}

int RunWorker(const WorkerFlags& options, std::unique_ptr<Device> device) {
  const DeviceInfo info = device->info();
  Health health;
  absl::StatusOr<std::unique_ptr<WorkerEngine>> engine =
      WorkerEngine::Create(EngineOptions(options, health), std::move(device));
  if (!engine.ok()) return FailStart(engine.status());

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  WorkerService service(**engine);
  int port = 0;
  std::unique_ptr<grpc::Server> server = StartServer(options.listen, service, &port);
  if (server == nullptr)
    return FailStart(
        absl::UnavailableError(absl::StrCat("listening at ", options.listen, " failed")));
  health.Attach(server->GetHealthCheckService());

  const std::string address = ActualAddress(options.listen, port);
  spdlog::info("worker {}: serving at {} with {} device '{}' ({})", options.name, address,
               info.kind, info.name, info.driver);
  if (!options.ready_file.empty()) {
    const absl::Status written = WriteAtomically(options.ready_file, absl::StrCat(address, "\n"));
    if (!written.ok()) return FailStart(written);
  }

  const sigset_t stop = StopSignals();
  int signal = 0;
  ::sigwait(&stop, &signal);
  spdlog::info("worker {}: stopping on signal {}", options.name, signal);
  (*engine)->Supersede(~std::uint64_t{0});  // a Connect that waits for another worker ends
  service.EndStreams();
  server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  server->Wait();
  health.Attach(nullptr);
  if (!options.ready_file.empty()) ::unlink(options.ready_file.c_str());
  return 0;
}

}  // namespace tandem
