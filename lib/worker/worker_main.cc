#include "lib/worker/worker_main.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/sandbox/sandbox.h"
#include "lib/service/cluster_layout.h"
#include "lib/service/process.h"
#include "lib/telemetry/metrics_port.h"
#include "lib/tls/cluster_tls.h"
#include "lib/worker/inline_edge.h"
#include "lib/worker/service.h"
#include "lib/worker/worker_engine.h"
#include "lib/worker/worker_metrics.h"

namespace tandem {
namespace {

constexpr char kServiceName[] = "tandem.v1.Worker";
constexpr std::chrono::milliseconds kShutdownGrace{500};

struct WorkerFlags {
  WorkerRole role = WorkerRole::kGpu;
  std::string name;
  std::string device;
  DeviceSettings devices;
  std::string run_folder;
  std::string listen;
  std::string fd_socket;
  std::string ready_file;
  ClusterTlsSettings tls;
  SandboxSettings sandbox;
  std::string metrics;
  WatchSettings watch;
  LogSettings log;
  bool list_devices = false;
};

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

WorkerEngine::Options EngineOptions(const WorkerFlags& options, Health& health) {
  WorkerEngine::Options engine;
  engine.name = options.name;
  engine.role = options.role;
  engine.fd_socket = options.fd_socket;
  engine.device_losses = ReadDeviceLosses(options.fd_socket);
  engine.on_health = [&health](bool serving) { health.Set(serving); };
  engine.on_device_lost = [name = options.name, fd_socket = options.fd_socket,
                           losses = engine.device_losses](const absl::Status& status) {
    spdlog::critical("worker {}: the device is lost, nothing more can be served: {}", name,
                     status.ToString());
    // The next process of this worker shows it in its metrics.
    WriteDeviceLosses(fd_socket, losses + 1);
    // No destructors: they would wait for a device that does not answer.
    ::_exit(kExitDeviceLost);
  };
  return engine;
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartServer(const std::string& listen,
                                                          WorkerService& service,
                                                          std::unique_ptr<ClusterPort>* port) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  TANDEM_ASSIGN_OR_RETURN(*port, ClusterPort::Open("--listen", listen, &builder));
  builder.RegisterService(service.service());
  builder.SetMaxReceiveMessageSize(kMaxFrameBytes);
  builder.SetMaxSendMessageSize(kMaxFrameBytes);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr)
    return absl::UnavailableError(Cat("--listen: cannot listen on ", listen, ": is it in use?"));
  (*port)->Serve();
  return server;
}

absl::Status Serve(const WorkerFlags& flags, const StopSignals& signals,
                   std::unique_ptr<Device> device) {
  const DeviceInfo info = device->info();
  Health health;
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerEngine> engine,
                          WorkerEngine::Create(EngineOptions(flags, health), std::move(device)));
  WorkerService service(*engine);
  std::unique_ptr<ClusterPort> port;
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<grpc::Server> server,
                          StartServer(flags.listen, service, &port));
  const std::string address = port->address().ToString();
  health.Attach(server->GetHealthCheckService());
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<MetricsPort> metrics,
                          StartMetricsPort(flags.metrics, flags.watch,
                                           [e = engine.get()] { return WorkerMetricsText(*e); }));
  if (metrics != nullptr) engine->SetMetricsAddress(metrics->address());
  spdlog::info("worker {}: serving at {} with {} device '{}' ({})", flags.name, address, info.kind,
               info.name, info.driver);
  TANDEM_ASSIGN_OR_RETURN(const ReadyFile ready,
                          ReadyFile::Write(flags.ready_file, address + "\n"));
  spdlog::info("worker {}: stopping on signal {}", flags.name, signals.Wait());
  engine->Supersede(~std::uint64_t{0});  // a Connect that waits for another worker ends
  service.EndStreams();
  port->Stop();
  server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  server->Wait();
  health.Attach(nullptr);
  return absl::OkStatus();
}

// Fills in the device and the sockets by the worker's name, from the settings of the cluster.
absl::Status FindPlace(WorkerFlags* flags) {
  if (flags->run_folder.empty()) return absl::OkStatus();
  const RunFolder folder{flags->run_folder};
  if (flags->listen.empty()) flags->listen = folder.Address(flags->name);
  if (flags->fd_socket.empty()) flags->fd_socket = folder.DescriptorSocket(flags->name);
  if (!flags->device.empty()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const std::vector<WorkerSpec> workers, WorkersOf(flags->devices));
  std::string names;
  for (const WorkerSpec& worker : workers) {
    if (worker.name == flags->name && worker.role == flags->role) flags->device = worker.device;
    if (worker.role == flags->role) names += Cat(names.empty() ? "" : ", ", worker.name);
  }
  if (!flags->device.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("--name: expected a worker that --", NameOf(flags->role),
                                        " asks for (", names.empty() ? "it asks for none" : names,
                                        "), found '", flags->name, "'"));
}

absl::Status Run(const WorkerProgram& program, WorkerFlags flags) {
  PrepareProcess(Cat(NameOf(program.role), "-worker"), flags.log);
  TANDEM_ASSIGN_OR_RETURN(const StopSignals signals, StopSignals::Catch());
  TANDEM_RETURN_IF_ERROR(FindPlace(&flags));
  if (flags.device.empty())
    return absl::InvalidArgumentError(
        "--device: expected the device to use, found none (it is never chosen silently)");
  if (flags.listen.empty())
    return absl::InvalidArgumentError("--listen: expected an address, found none");
  TANDEM_RETURN_IF_ERROR(UseClusterTls(flags.tls));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, program.create(flags.device));
  // Drivers open what they need with the device.
  if (flags.sandbox.sandbox) {
    TANDEM_RETURN_IF_ERROR(EnterSandbox(device->info().kind == "cpu" ? SandboxKind::kCpuWorker
                                                                     : SandboxKind::kDriverWorker));
  }
  return Serve(flags, signals, std::move(device));
}

}  // namespace

int WorkerMain(const WorkerProgram& program, int argc, char** argv) {
  WorkerFlags flags;
  flags.role = program.role;
  flags.name = Cat(NameOf(program.role), "0");
  FlagList list;
  AddDeviceFlags(&list, &flags.devices);
  if (program.flags) program.flags(&list);
  AddClusterTlsFlags(&list, &flags.tls);
  AddSandboxFlags(&list, &flags.sandbox);
  AddWatchFlags(&list, &flags.watch);
  AddLogFlags(&list, &flags.log);
  list.Section("This process", FlagScope::kProcess);
  list.Text("name", &flags.name, "as plans and logs call this worker");
  list.Path("run_folder", &flags.run_folder,
            "where the cluster's processes find each other: the sockets that are not named below "
            "stand in it, and --npu and --gpu say the device of the worker of this name");
  list.Text("device", &flags.device, program.devices);
  list.Text(
      "listen", &flags.listen,
      "unix:/path, a loopback host:port (port 0: any free one) or, with --cluster_cert, any one");
  list.Path("fd_socket", &flags.fd_socket,
            "Unix socket where other workers fetch the memory of edges");
  list.Path("ready_file", &flags.ready_file, "gets the address once the worker serves");
  list.Text("metrics", &flags.metrics, kMetricsFlagHelp);
  list.Section("This process", FlagScope::kCommandLine);
  list.Switch("list_devices", &flags.list_devices, "print the devices of this machine and end");
  return RunProgram({program.name, program.summary}, argc, argv, list, [&] {
    if (flags.list_devices) return program.list_devices();
    const std::optional<int> instead = program.instead ? program.instead() : std::nullopt;
    if (instead.has_value()) return *instead;
    const absl::Status status = Run(program, flags);
    return status.ok() ? 0 : FailStart(program.name, status);
  });
}

}  // namespace tandem
