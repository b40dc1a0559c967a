// tandem-loader: reads a model's files, packs the weights into shared memory, and hands them out.

#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "lib/base/logging.h"
#include "lib/base/status_macros.h"
#include "lib/base/thread_pool.h"
#include "lib/base/version.h"
#include "loader/pack/model_packer.h"
#include "loader/read/model_source.h"
#include "loader/serve/loader_server.h"

ABSL_FLAG(std::string, model, "",
          "the model: a .gguf or .safetensors file, a folder, or a Hugging Face cache folder");
ABSL_FLAG(std::string, quant, "as-is", "weights in memory: bf16, int8, int4 or as-is");
ABSL_FLAG(std::string, listen, "",
          "where gRPC listens: unix:/path or a loopback address (port 0: any free one)");
ABSL_FLAG(std::string, region_socket, "",
          "path of the Unix socket that hands out the regions' descriptors");
ABSL_FLAG(std::int32_t, threads, 0, "threads that read and pack; 0: one for each processor");
ABSL_FLAG(std::string, ready_file, "",
          "gets the address, whole or not at all, once the loader listens");
ABSL_FLAG(std::string, log_level, "info", "trace, debug, info, warn, error or off");
ABSL_FLAG(bool, check, false, "read and check the whole model, print a summary and exit");

namespace tandem {
namespace {

constexpr absl::Duration kShutdownGrace = absl::Milliseconds(500);
constexpr std::int32_t kMaxThreads = 1024;

// The one line that ends a failed start.
int Fail(const absl::Status& status) {
  const std::string text(status.message());
  std::fprintf(stderr, "tandem-loader: error: %s\n", text.c_str());
  return 1;
}

// Readers see the whole file or none.
absl::Status WriteAtomically(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".", ::getpid());
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << text << std::flush;
    if (!out)
      return absl::UnavailableError(absl::StrCat("--ready_file: cannot write '", temporary, "'"));
  }
  if (::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status status =
      absl::ErrnoToStatus(errno, absl::StrCat("--ready_file: cannot create '", path, "'"));
  ::unlink(temporary.c_str());
  return status;
}

absl::StatusOr<int> ThreadCount() {
  const std::int32_t asked = absl::GetFlag(FLAGS_threads);
  if (asked < 0 || asked > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads: expected 0 to ", kMaxThreads, ", found ", asked));
  }
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::string Gigabytes(std::uint64_t bytes) {
  return absl::StrCat(static_cast<double>(bytes / 1'000'000) / 1000, " GB");
}

// The load in the background: `done_fd` becomes readable at its end.
class LoadThread {
 public:
  LoadThread(const ModelPacker& packer, int threads, ProgressTracker& tracker, LoaderServer& server)
      : done_fd_(::eventfd(0, EFD_CLOEXEC)), thread_([this, &packer, threads, &tracker, &server] {
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
    TANDEM_ASSIGN_OR_RETURN(std::vector<SealedRegion> regions, packer.Pack(pool, options));
    TANDEM_RETURN_IF_ERROR(server.Publish(std::move(regions)));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    spdlog::info("ready: {} of weights in {:.2f} s, {} threads", Gigabytes(packer.total_bytes()),
                 seconds, threads);
    return absl::OkStatus();
  }

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
int Serve(LoaderServer& server, LoadThread& load, int signal_fd) {
  std::array<pollfd, 2> entries{{{signal_fd, POLLIN, 0}, {load.done_fd(), POLLIN, 0}}};
  nfds_t watched = 2;
  while (true) {
    if (::poll(entries.data(), watched, -1) < 0) {
      if (errno == EINTR) continue;
      return Fail(absl::ErrnoToStatus(errno, "poll"));
    }
    const bool load_is_over = watched == 2 && entries[1].revents != 0;
    if (entries[0].revents != 0) {
      spdlog::info("stopping");
      server.Shutdown(kShutdownGrace);
      if (watched == 2) load.Join(/*cancel=*/true).IgnoreError();
      return 0;
    }
    if (!load_is_over) continue;
    const absl::Status status = load.Join(/*cancel=*/false);
    if (!status.ok()) {
      server.Fail(status);
      server.Shutdown(kShutdownGrace);
      return Fail(status);
    }
    watched = 1;
  }
}

absl::StatusOr<int> BlockStopSignals() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const int fd = ::signalfd(-1, &stop, SFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "signalfd");
  return fd;
}

int Run() {
  InitLogging("loader", absl::GetFlag(FLAGS_log_level));
  ::umask(0077);
  const absl::StatusOr<int> signal_fd = BlockStopSignals();
  if (!signal_fd.ok()) return Fail(signal_fd.status());
  const UniqueFd signals(*signal_fd);
  const absl::StatusOr<int> threads = ThreadCount();
  if (!threads.ok()) return Fail(threads.status());
  if (absl::GetFlag(FLAGS_model).empty())
    return Fail(absl::InvalidArgumentError("--model: expected a file or folder, found nothing"));
  const absl::StatusOr<QuantMode> quant = ParseQuantMode(absl::GetFlag(FLAGS_quant));
  if (!quant.ok()) return Fail(quant.status());

  const absl::StatusOr<std::unique_ptr<const ModelSource>> source =
      ModelSource::Open(absl::GetFlag(FLAGS_model));
  if (!source.ok()) return Fail(source.status());
  const absl::StatusOr<ModelPacker> packer = ModelPacker::Create(**source, *quant);
  if (!packer.ok()) return Fail(packer.status());
  if (absl::GetFlag(FLAGS_check)) return Check(**source, *packer, *threads);

  const LoaderServerOptions options{absl::GetFlag(FLAGS_listen),
                                    absl::GetFlag(FLAGS_region_socket)};
  if (options.listen.empty())
    return Fail(absl::InvalidArgumentError("--listen: expected an address, found nothing"));
  if (options.region_socket.empty())
    return Fail(absl::InvalidArgumentError("--region_socket: expected a path, found nothing"));
  ProgressTracker tracker(packer->total_bytes(), packer->total_tensors(), Clock::Real());
  absl::StatusOr<std::unique_ptr<LoaderServer>> server =
      LoaderServer::Start(options, **source, *packer, QuantModeName(*quant), tracker);
  if (!server.ok()) return Fail(server.status());
  spdlog::info("model '{}' ({}): listening at {}", (*source)->config().name,
               std::string(packer->weight_format()), (*server)->address());
  const std::string ready_file = absl::GetFlag(FLAGS_ready_file);
  if (!ready_file.empty()) {
    const absl::Status written =
        WriteAtomically(ready_file, absl::StrCat((*server)->address(), "\n"));
    if (!written.ok()) return Fail(written);
  }
  LoadThread load(*packer, *threads, tracker, **server);
  const int code = Serve(**server, load, signals.get());
  if (!ready_file.empty()) ::unlink(ready_file.c_str());
  return code;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "reads a Gemma 3 model and holds its weights in shared memory for the workers");
  absl::FlagsUsageConfig usage;
  usage.version_string = [] { return absl::StrCat("tandem-loader ", tandem::kVersion, "\n"); };
  absl::SetFlagsUsageConfig(usage);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    std::fprintf(stderr, "tandem-loader: error: expected flags only, found '%s'\n", rest[1]);
    return 1;
  }
  return tandem::Run();
}
