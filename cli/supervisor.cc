#include "cli/supervisor.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/client.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kLongestBackoff = absl::Seconds(10);
constexpr absl::Duration kHealthyAfter = absl::Minutes(1);
constexpr int kStartAttempts = 5;
constexpr absl::Duration kStopGrace = absl::Seconds(10);

}  // namespace

Supervisor::Supervisor(UpOptions options, ClusterPaths paths, Reporter* reporter, Spawner spawn)
    : options_(std::move(options)),
      paths_(std::move(paths)),
      reporter_(reporter),
      spawn_(std::move(spawn)) {}

Supervisor::~Supervisor() = default;

absl::Status Supervisor::Run(const OnReady& on_ready) {
  TANDEM_RETURN_IF_ERROR(CreateFolders(paths_));
  TANDEM_ASSIGN_OR_RETURN(lock_, TakeLock(paths_));
  TANDEM_ASSIGN_OR_RETURN(StopSignals signals, StopSignals::Catch());
  signals_.emplace(std::move(signals));
  ::signal(SIGPIPE, SIG_IGN);
  absl::Status status = StartAll();
  if (status.ok()) status = Loop(on_ready);
  StopAll();
  return status;
}

absl::Status Supervisor::StartAll() {
  if (const std::string& keys = options_.gateway.api_key_file; !keys.empty())
    TANDEM_RETURN_IF_ERROR(NeedKeyRules(keys).status());
  TANDEM_ASSIGN_OR_RETURN(program_folder_, ProgramFolder());
  std::remove(GatewayReadyFile(paths_).c_str());
  for (ProcessSpec& spec : ProcessesOf(options_, paths_, program_folder_)) {
    RotateLog(paths_.Log(spec.name));
    Child child;
    child.spec = std::move(spec);
    children_.push_back(std::move(child));
  }
  for (Child& child : children_) TANDEM_RETURN_IF_ERROR(Start(&child));
  watcher_ = std::make_unique<Watcher>(LoaderAddress(paths_), GatewayReadyFile(paths_),
                                       GatewaySocket(paths_));
  SaveState();
  return absl::OkStatus();
}

absl::Status Supervisor::Start(Child* child) {
  child->restart_at = absl::InfiniteFuture();
  TANDEM_ASSIGN_OR_RETURN(child->process,
                          spawn_(child->spec.command, paths_.Log(child->spec.name)));
  child->running = true;
  child->started = absl::Now();
  return absl::OkStatus();
}

absl::Status Supervisor::OnChildEnd(Child* child) {
  int wait_status = 0;
  if (::waitpid(child->process.pid, &wait_status, WNOHANG) != child->process.pid)
    return absl::OkStatus();
  child->running = false;
  child->process.pidfd.Reset();
  const std::string log = paths_.Log(child->spec.name);
  const std::string how = DescribeExit(wait_status);
  if (absl::Now() - child->started > kHealthyAfter) child->failures = 0;
  ++child->failures;
  if (!ready_ && (WIFEXITED(wait_status) || child->failures >= kStartAttempts)) {
    const std::string line = LastErrorLine(log);
    return absl::UnavailableError(
        line.empty() ? absl::StrCat(child->spec.name, " ended with ", how, "; its log is ", log)
                     : line);
  }
  PlanRestart(child, absl::StrCat("ended with ", how));
  return absl::OkStatus();
}

void Supervisor::PlanRestart(Child* child, const std::string& why) {
  const absl::Duration wait =
      std::min(kLongestBackoff, kFirstBackoff * (1 << std::min(child->failures - 1, 10)));
  child->restart_at = absl::Now() + wait;
  reporter_->Line(absl::StrFormat("%s %s; starting it again in %.1f s (log: %s)", child->spec.name,
                                  why, absl::ToDoubleSeconds(wait), paths_.Log(child->spec.name)));
}

void Supervisor::RestartDue() {
  for (Child& child : children_) {
    if (child.running || absl::Now() < child.restart_at) continue;
    if (child.spec.kind == ProcessKind::kGateway && !http_.empty()) {
      // Clients know the addresses by now: a port that was chosen at the start is asked for by
      // number.
      options_.gateway.http = http_;
      options_.gateway.grpc = grpc_;
      child.spec = GatewayProcess(options_, paths_, program_folder_);
    }
    if (const absl::Status started = Start(&child); started.ok()) {
      ++child.restarts;
    } else {
      ++child.failures;
      PlanRestart(&child, absl::StrCat("cannot be started: ", std::string(started.message())));
    }
    SaveState();
  }
}

absl::Status Supervisor::HandleNews(const OnReady& on_ready) {
  watcher_->ClearEvent();
  const Watcher::News news = watcher_->Take();
  if (http_.empty() && !news.http.empty()) {
    http_ = news.http;
    grpc_ = news.grpc;
    SaveState();
  }
  if (news.progress.has_value() && !ready_) reporter_->Progress(*news.progress);
  if (!news.status.has_value()) return absl::OkStatus();
  if (!ready_ && news.status->state() == "failed")
    return absl::UnavailableError(news.status->detail());
  if (!ready_ && news.status->state() == "ready") {
    ready_ = true;
    SayReady(*news.status);
    if (on_ready) on_ready();
  } else if (ready_ && news.status->state() != last_state_) {
    reporter_->Line(absl::StrCat("cluster is ", news.status->state(),
                                 news.status->detail().empty() ? "" : ": ", news.status->detail()));
  }
  if (ready_) {
    reporter_->Status(*news.status);
    last_state_ = news.status->state();
  }
  return absl::OkStatus();
}

void Supervisor::SayReady(const v1::ClusterStatus& status) {
  last_state_ = status.state();
  reporter_->Line(StatusTable(status));
  const std::string_view scheme = options_.gateway.tls_cert.empty() ? "http://" : "https://";
  const std::string api = http_.starts_with("unix:") ? http_ : Cat(scheme, http_, "/v1");
  reporter_->Line(absl::StrCat("ready: HTTP ", api, ", gRPC ", grpc_, ", model ", status.model(),
                               ", logs ", paths_.logs));
}

absl::Status Supervisor::Loop(const OnReady& on_ready) {
  while (true) {
    std::vector<pollfd> entries = {{signals_->fd(), POLLIN, 0}, {watcher_->event_fd(), POLLIN, 0}};
    std::vector<Child*> watched;
    absl::Time wake = absl::Now() + absl::Minutes(1);
    for (Child& child : children_) {
      if (child.running) {
        entries.push_back({child.process.pidfd.get(), POLLIN, 0});
        watched.push_back(&child);
      } else {
        wake = std::min(wake, child.restart_at);
      }
    }
    const std::int64_t timeout =
        std::max<std::int64_t>(0, absl::ToInt64Milliseconds(wake - absl::Now()) + 1);
    if (::poll(entries.data(), entries.size(), static_cast<int>(timeout)) < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "poll");
    }
    if (entries[0].revents != 0) return absl::OkStatus();
    for (std::size_t i = 0; i < watched.size(); ++i) {
      if (entries[i + 2].revents != 0) {
        TANDEM_RETURN_IF_ERROR(OnChildEnd(watched[i]));
        SaveState();
      }
    }
    RestartDue();
    if (entries[1].revents != 0) TANDEM_RETURN_IF_ERROR(HandleNews(on_ready));
  }
}

void Supervisor::StopChildren(ProcessKind kind, absl::Duration grace) {
  const absl::Time deadline = absl::Now() + grace;
  for (Child& child : children_) {
    if (child.running && child.spec.kind == kind) ::kill(child.process.pid, SIGTERM);
  }
  for (Child& child : children_) {
    if (!child.running || child.spec.kind != kind) continue;
    pollfd entry{child.process.pidfd.get(), POLLIN, 0};
    const std::int64_t left =
        std::max<std::int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()));
    if (::poll(&entry, 1, static_cast<int>(left)) <= 0) {
      reporter_->Line(absl::StrCat(child.spec.name, " did not stop in time: killing it"));
      ::kill(child.process.pid, SIGKILL);
    }
    ::waitpid(child.process.pid, nullptr, 0);
    child.running = false;
  }
}

void Supervisor::StopAll() {
  watcher_.reset();
  // From the outside in: no request is accepted that cannot be served, and regions go last.
  StopChildren(ProcessKind::kGateway, kStopGrace);
  StopChildren(ProcessKind::kWorker, kStopGrace);
  StopChildren(ProcessKind::kLoader, kStopGrace);
  std::remove(paths_.StateFile().c_str());
  std::remove(GatewayReadyFile(paths_).c_str());
}

void Supervisor::SaveState() const {
  ClusterState state;
  state.supervisor_pid = ::getpid();
  state.http = http_;
  state.grpc = grpc_;
  state.model = options_.loader.model;
  state.plan = options_.gateway.plan;
  for (const Child& child : children_) {
    state.processes.push_back({child.spec.name, child.running ? child.process.pid : 0,
                               child.restarts, paths_.Log(child.spec.name)});
  }
  if (const absl::Status status = WriteState(paths_, state); !status.ok())
    reporter_->Line(std::string(status.message()));
}

}  // namespace tandem
