// tandem-loader: reads a model's files, packs the weights into shared memory, and hands them out.

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/base/thread_pool.h"
#include "lib/sandbox/sandbox.h"
#include "lib/service/cluster_layout.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/process.h"
#include "lib/telemetry/metrics_port.h"
#include "lib/tls/cluster_tls.h"
#include "loader/pack/model_packer.h"
#include "loader/read/model_source.h"
#include "loader/serve/adopt.h"
#include "loader/serve/loader_metrics.h"
#include "loader/serve/loader_server.h"

namespace tandem {
namespace {

constexpr absl::Duration kShutdownGrace = absl::Milliseconds(500);
constexpr char kProgram[] = "tandem-loader";

struct LoaderFlags {
  LoaderSettings settings;
  ClusterTlsSettings tls;
  SandboxSettings sandbox;
  LogSettings log;
  CpuDeviceSettings cpu;  // here: the threads that read and pack
  DeviceSettings devices;
  std::string run_folder;
  std::string listen;
  std::string region_socket;
  std::string adopt_from;
  std::string ready_file;
  std::string metrics;
  WatchSettings watch;
  bool check = false;
};

int Fail(const absl::Status& status) { return FailStart(kProgram, status); }

// Fills in the sockets, from the run folder, and checks that everything needed is there.
absl::Status FinishFlags(LoaderFlags* flags) {
  if (flags->settings.model.empty())
    return absl::InvalidArgumentError("--model: expected a file or folder, found nothing");
  if (flags->check) return absl::OkStatus();
  if (!flags->run_folder.empty()) {
    const RunFolder folder{flags->run_folder};
    if (flags->listen.empty()) flags->listen = folder.Address("loader");
    if (flags->region_socket.empty()) flags->region_socket = folder.RegionSocket();
    if (flags->adopt_from.empty()) {
      TANDEM_ASSIGN_OR_RETURN(const std::vector<WorkerSpec> workers, WorkersOf(flags->devices));
      for (const WorkerSpec& worker : workers) {
        absl::StrAppend(&flags->adopt_from, flags->adopt_from.empty() ? "" : ",",
                        folder.DescriptorSocket(worker.name));
      }
    }
  }
  if (flags->listen.empty())
    return absl::InvalidArgumentError("--listen: expected an address, found nothing");
  if (flags->region_socket.empty())
    return absl::InvalidArgumentError("--region_socket: expected a path, found nothing");
  return absl::OkStatus();
}

std::string Gigabytes(std::uint64_t bytes) {
  return absl::StrCat(static_cast<double>(bytes / 1'000'000) / 1000, " GB");
}

// The load in the background: `done_fd` becomes readable at its end.
class LoadThread {
 public:
  LoadThread(const ModelPacker& packer, AdoptRequest adopt, int threads, ProgressTracker& tracker,
             LoaderServer& server)
      : adopt_(std::move(adopt)),
        done_fd_(::eventfd(0, EFD_CLOEXEC)),
        thread_([this, &packer, threads, &tracker, &server] {
          status_ = Load(packer, threads, tracker, server);
          const std::uint64_t one = 1;
          TANDEM_CHECK(::write(done_fd_.get(), &one, sizeof(one)) == sizeof(one));
        }) {}
  int done_fd() const { return done_fd_.get(); }
  absl::Status Join(bool cancel) {
    if (cancel) cancel_ = true;
    thread_.join();
    return status_;
  }

 private:
  absl::Status Load(const ModelPacker& packer, int threads, ProgressTracker& tracker,
                    LoaderServer& server) {
    const absl::Time start = absl::Now();
    ThreadPool pool(threads);
    PackOptions options;
    options.cancel = &cancel_;
    options.on_progress = [&](const PackProgress& p) {
      tracker.Add(p.tensor->name, p.bytes, p.tensor_is_done);
    };
    std::vector<SealedRegion> adopted = AdoptRegions(adopt_, pool);
    if (!adopted.empty()) {
      spdlog::info("{} of {} regions taken back from the workers, whole and unchanged",
                   adopted.size(), packer.layouts().size());
    }
    TANDEM_ASSIGN_OR_RETURN(std::vector<SealedRegion> regions,
                            packer.Pack(pool, options, std::move(adopted)));
    std::uint64_t huge_bytes = 0;
    for (const SealedRegion& region : regions) huge_bytes += region.huge_bytes;
    TANDEM_RETURN_IF_ERROR(server.Publish(std::move(regions)));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    spdlog::info(
        "ready: {} of weights in {:.2f} s, {} threads; {} of what was packed in 2 MiB pages",
        Gigabytes(packer.total_bytes()), seconds, threads, Gigabytes(huge_bytes));
    return absl::OkStatus();
  }

  const AdoptRequest adopt_;
  UniqueFd done_fd_;
  std::atomic<bool> cancel_ = false;
  absl::Status status_;
  std::thread thread_;
};

int Check(const ModelSource& source, const ModelPacker& packer, int threads) {
  ThreadPool pool(threads);
  const absl::Status status = packer.Check(pool, {});
  if (!status.ok()) return Fail(status);
  const ModelConfig& c = source.config();
  std::printf(
      "%s: good\nfiles    %s\nshape    %d layers, hidden %d, ffn %d, %d heads (%d kv) of %d, "
      "vocabulary %d\n",
      c.name.c_str(), absl::StrJoin(source.file_names(), ", ").c_str(), c.num_layers, c.hidden_size,
      c.ffn_size, c.num_heads, c.num_kv_heads, c.head_dim, c.vocab_size);
  std::printf("weights  %s, %s in %zu regions, %u tensors\n",
              std::string(packer.weight_format()).c_str(), Gigabytes(packer.total_bytes()).c_str(),
              packer.layouts().size(), packer.total_tensors());
  return 0;
}

// Until the load has failed or a signal asks to stop.
int Serve(LoaderServer& server, LoadThread& load, const StopSignals& signals) {
  std::array<pollfd, 3> entries{
      {{signals.fd(), POLLIN, 0}, {server.damage_fd(), POLLIN, 0}, {load.done_fd(), POLLIN, 0}}};
  nfds_t watched = 3;
  while (true) {
    if (::poll(entries.data(), watched, -1) < 0) {
      if (errno == EINTR) continue;
      return Fail(absl::ErrnoToStatus(errno, "poll"));
    }
    const bool load_is_over = watched == 3 && entries[2].revents != 0;
    if (entries[0].revents != 0) {
      spdlog::info("stopping");
      server.Shutdown(kShutdownGrace);
      if (watched == 3) load.Join(/*cancel=*/true).IgnoreError();
      return 0;
    }
    if (entries[1].revents != 0) {
      server.Shutdown(kShutdownGrace);
      if (watched == 3) load.Join(/*cancel=*/true).IgnoreError();
      return Fail(server.damage());
    }
    if (!load_is_over) continue;
    const absl::Status status = load.Join(/*cancel=*/false);
    if (!status.ok()) {
      server.Fail(status);
      server.Shutdown(kShutdownGrace);
      return Fail(status);
    }
    watched = 2;
  }
}

int Run(LoaderFlags flags) {
  PrepareProcess("loader", flags.log);
  const absl::StatusOr<StopSignals> signals = StopSignals::Catch();
  if (!signals.ok()) return Fail(signals.status());
  absl::Status status = FinishFlags(&flags);
  if (status.ok()) status = UseClusterTls(flags.tls);
  if (status.ok() && flags.sandbox.sandbox) status = EnterSandbox(SandboxKind::kLoader);
  if (!status.ok()) return Fail(status);
  const int threads = flags.cpu.threads > 0
                          ? flags.cpu.threads
                          : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const QuantMode quant = flags.settings.quant;
  const absl::StatusOr<std::unique_ptr<const ModelSource>> source =
      ModelSource::Open(flags.settings.model);
  if (!source.ok()) return Fail(source.status());
  const absl::StatusOr<ModelPacker> packer = ModelPacker::Create(**source, quant);
  if (!packer.ok()) return Fail(packer.status());
  if (flags.check) return Check(**source, *packer, threads);

  ProgressTracker tracker(packer->total_bytes(), packer->total_tensors(), Clock::Real());
  const absl::StatusOr<std::unique_ptr<MetricsPort>> metrics = StartMetricsPort(
      flags.metrics, flags.watch, [&tracker] { return LoaderMetricsText(tracker.Get()); });
  if (!metrics.ok()) return Fail(metrics.status());
  absl::StatusOr<std::unique_ptr<LoaderServer>> server = LoaderServer::Start(
      {flags.listen, flags.region_socket, *metrics == nullptr ? "" : (*metrics)->address()},
      **source, *packer, NameOf(quant), tracker);
  if (!server.ok()) return Fail(server.status());
  spdlog::info("model '{}' ({}): listening at {}", (*source)->config().name,
               std::string(packer->weight_format()), (*server)->address());
  const absl::StatusOr<ReadyFile> ready =
      ReadyFile::Write(flags.ready_file, absl::StrCat((*server)->address(), "\n"));
  if (!ready.ok()) return Fail(ready.status());
  LoadThread load(*packer,
                  {absl::StrSplit(flags.adopt_from, ',', absl::SkipEmpty()),
                   ModelFingerprint(**source, NameOf(flags.settings.quant)), (*source)->config(),
                   packer->layouts()},
                  threads, tracker, **server);
  return Serve(**server, load, *signals);
}

int Main(int argc, char** argv) {
  LoaderFlags flags;
  FlagList list;
  AddLoaderFlags(&list, &flags.settings);
  AddDeviceFlags(&list, &flags.devices);
  AddCpuDeviceFlags(&list, &flags.cpu);
  AddClusterTlsFlags(&list, &flags.tls);
  AddSandboxFlags(&list, &flags.sandbox);
  AddWatchFlags(&list, &flags.watch);
  AddLogFlags(&list, &flags.log);
  list.Section("This process", FlagScope::kProcess);
  list.Path("run_folder", &flags.run_folder,
            "where the cluster's processes find each other: the sockets that are not named below "
            "stand in it");
  list.Text("listen", &flags.listen,
            "where gRPC listens: unix:/path, a loopback address (port 0: any free one) or, with "
            "--cluster_cert, any one");
  list.Path("region_socket", &flags.region_socket,
            "path of the Unix socket that hands out the regions' descriptors");
  list.Text("adopt_from", &flags.adopt_from,
            "descriptor sockets of workers, separated by commas: regions of this model that they "
            "still have mapped are taken back instead of packed anew");
  list.Path("ready_file", &flags.ready_file,
            "gets the address, whole or not at all, once the loader listens");
  list.Text("metrics", &flags.metrics, kMetricsFlagHelp);
  list.Section("This process", FlagScope::kCommandLine);
  list.Switch("check", &flags.check, "read and check the whole model, print a summary and end");
  return RunProgram({kProgram, "reads a Gemma 3 model and holds its weights in shared memory"},
                    argc, argv, list, [&] { return Run(flags); });
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc, argv); }
