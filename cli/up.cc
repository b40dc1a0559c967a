#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/client.h"
#include "cli/cluster_files.h"
#include "cli/commands.h"
#include "cli/reporter.h"
#include "cli/supervisor.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// The detached supervisor tells the waiting `up` how the start went: report lines, then one of
// these.
constexpr char kReadyMark = '\x06';
constexpr char kFailedMark = '\x15';

int RunForeground(const UpOptions& options, const ClusterPaths& paths) {
  const std::unique_ptr<Reporter> reporter = MakeReporter(STDOUT_FILENO);
  Supervisor supervisor(options, paths, reporter.get());
  const absl::Status status = supervisor.Run(nullptr);
  return status.ok() ? 0 : Fail(status);
}

[[noreturn]] void RunDetached(const UpOptions& options, const ClusterPaths& paths,
                              UniqueFd report) {
  ::setsid();
  ::signal(SIGPIPE, SIG_IGN);
  if (std::freopen("/dev/null", "r", stdin) == nullptr) std::_Exit(1);
  if (CreateFolders(paths).ok()) {
    RotateLog(paths.Log("tandem"));
    if (std::freopen(paths.Log("tandem").c_str(), "a", stdout) == nullptr) std::_Exit(1);
    ::dup2(STDOUT_FILENO, STDERR_FILENO);
  }
  const auto send = [&report](const std::string& text) {
    [[maybe_unused]] const ssize_t written = ::write(report.get(), text.data(), text.size());
  };
  // Until it is ready the start is reported to whoever waits, afterwards to the log.
  std::unique_ptr<Reporter> to_waiter = MakeReporter(report.get());
  const std::unique_ptr<Reporter> to_log = MakeReporter(STDOUT_FILENO);
  class Switch final : public Reporter {
   public:
    explicit Switch(Reporter* first) : target(first) {}
    void Line(const std::string& text) override { target->Line(text); }
    void Progress(const v1::LoadProgress& progress) override { target->Progress(progress); }
    void Status(const v1::ClusterStatus& status) override { target->Status(status); }
    Reporter* target;
  } reporter(to_waiter.get());
  Supervisor supervisor(options, paths, &reporter);
  const absl::Status status = supervisor.Run([&] {
    send(std::string(1, kReadyMark));
    reporter.target = to_log.get();
    report.Reset();
  });
  if (!status.ok()) {
    send(absl::StrCat(std::string(1, kFailedMark), std::string(status.message())));
    Fail(status);
  }
  std::fflush(nullptr);
  std::_Exit(status.ok() ? 0 : 1);
}

bool JsonOf(const google::protobuf::Message& message, std::string* text) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  return google::protobuf::util::MessageToJsonString(message, text, options).ok();
}

// The gateway's status and, beside it, what only the supervisor knows.
nlohmann::json WithProcesses(const std::string& status, const ClusterState& state) {
  nlohmann::json json = nlohmann::json::parse(status);
  json["http"] = state.http;
  json["grpc"] = state.grpc;
  json["supervisor_pid"] = state.supervisor_pid;
  json["processes"] = nlohmann::json::array();
  for (const ClusterState::Process& p : state.processes) {
    json["processes"].push_back({{"name", p.name},
                                 {"pid", p.pid},
                                 {"state", p.pid != 0 ? "running" : "restarting"},
                                 {"restarts", p.restarts},
                                 {"log", p.log}});
  }
  return json;
}

// Copies what the detached supervisor reports until it is ready, has failed or has gone.
int FollowStart(int report) {
  std::string failure;
  bool failed = false;
  char buffer[4096];
  while (true) {
    const ssize_t got = ::read(report, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (ssize_t i = 0; i < got; ++i) {
      if (buffer[i] == kReadyMark) return 0;
      if (buffer[i] == kFailedMark) {
        failed = true;
      } else if (failed) {
        failure.push_back(buffer[i]);
      } else {
        std::fputc(buffer[i], stdout);
      }
    }
    std::fflush(stdout);
  }
  return Fail(
      absl::UnavailableError(failed ? failure : "the start ended without a word; see the logs"));
}

}  // namespace

int Fail(const absl::Status& status) {
  const std::string text(status.message());
  std::fprintf(stderr, "tandem: error: %s\n", text.c_str());
  return 1;
}

int CommandUp(const UpOptions& options, const ClusterPaths& paths, bool detach) {
  if (!detach) return RunForeground(options, paths);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Fail(absl::ErrnoToStatus(errno, "pipe"));
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return Fail(absl::ErrnoToStatus(errno, "fork"));
  if (pid == 0) {
    read_end.Reset();
    RunDetached(options, paths, std::move(write_end));
  }
  write_end.Reset();
  return FollowStart(read_end.get());
}

int CommandDown(const ClusterPaths& paths) {
  const absl::StatusOr<pid_t> holder = LockHolder(paths);
  if (!holder.ok()) return Fail(holder.status());
  const pid_t pid = *holder;
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // A process that holds the lock after the descriptor was opened is the one the descriptor means:
  // had it ended before, its number could be another's by now, but not its lock.
  const absl::StatusOr<pid_t> still = LockHolder(paths);
  if (!still.ok()) return Fail(still.status());
  if (*still != pid) return CommandDown(paths);
  if (!pidfd.valid() || ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGTERM, nullptr, 0) != 0)
    return Fail(absl::ErrnoToStatus(errno, absl::StrCat("stopping process ", pid)));
  pollfd entry{pidfd.get(), POLLIN, 0};
  if (::poll(&entry, 1, 60'000) <= 0) {
    return Fail(absl::DeadlineExceededError(
        absl::StrCat("cluster '", paths.name, "' (process ", pid, ") did not stop within 60 s")));
  }
  std::printf("cluster '%s' stopped\n", paths.name.c_str());
  return 0;
}

int CommandStatus(const ClusterPaths& paths, const GatewayAddress& gateway, bool json) {
  absl::StatusOr<GatewayClient> client = ConnectTo(paths, gateway);
  if (!client.ok()) return Fail(client.status());
  // Only a local cluster has processes that somebody here knows.
  ClusterState state;
  if (gateway.grpc.empty()) {
    absl::StatusOr<ClusterState> read = ReadState(paths);
    if (!read.ok()) return Fail(read.status());
    state = *std::move(read);
  } else {
    state.grpc = gateway.grpc;
  }
  const absl::StatusOr<v1::ClusterStatus> status = client->Status(absl::Seconds(5));
  if (!status.ok()) return Fail(Annotate(status.status(), "gateway at " + state.grpc));
  if (json) {
    std::string text;
    if (!JsonOf(*status, &text)) {
      return Fail(absl::InternalError("the status cannot be printed as JSON"));
    }
    std::printf("%s\n",
                gateway.grpc.empty() ? WithProcesses(text, state).dump(1).c_str() : text.c_str());
    return 0;
  }
  std::printf("%s", StatusTable(*status).c_str());
  if (!gateway.grpc.empty()) return 0;
  std::printf("processes\n");
  for (const ClusterState::Process& p : state.processes) {
    const std::string where = p.pid != 0 ? absl::StrCat("pid ", p.pid) : "restarting";
    std::printf("  %-8s %-12s restarts %u, log %s\n", p.name.c_str(), where.c_str(), p.restarts,
                p.log.c_str());
  }
  std::printf("HTTP     %s\ngRPC     %s\n", state.http.c_str(), state.grpc.c_str());
  return 0;
}

int CommandPlanReport(const ClusterPaths& paths, const GatewayAddress& gateway, bool json) {
  absl::StatusOr<GatewayClient> client = ConnectTo(paths, gateway);
  if (!client.ok()) return Fail(client.status());
  const absl::StatusOr<v1::PlanReport> report = client->PlanReport(absl::Seconds(5));
  if (!report.ok()) return Fail(report.status());
  if (!json) {
    std::printf("%s", PlanTable(*report).c_str());
    return 0;
  }
  std::string text;
  if (!JsonOf(*report, &text)) return Fail(absl::InternalError("the plans cannot be printed"));
  std::printf("%s\n", text.c_str());
  return 0;
}

int CommandPlan(const ClusterPaths& paths, const GatewayAddress& gateway, const std::string& plan) {
  if (plan.empty()) return Fail(absl::InvalidArgumentError("expected a plan, found none"));
  absl::StatusOr<GatewayClient> client = ConnectTo(paths, gateway);
  if (!client.ok()) return Fail(client.status());
  if (const absl::Status changed = client->ChangePlan(plan); !changed.ok()) return Fail(changed);
  std::printf("plan %s\n", plan.c_str());
  return 0;
}

int CommandHealth(const std::string& address) {
  if (address.empty()) return Fail(absl::InvalidArgumentError("expected an address, found none"));
  const absl::Status status = CheckHealth(address, absl::Seconds(5));
  if (!status.ok()) return Fail(Annotate(status, address));
  std::printf("%s: healthy\n", address.c_str());
  return 0;
}

}  // namespace tandem
