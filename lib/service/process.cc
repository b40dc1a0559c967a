#include "lib/service/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/service/command_line.h"

namespace tandem {
namespace {

sigset_t StopSet() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGHUP);
  return set;
}

bool Readable(int fd, int timeout_ms) {
  pollfd entry{fd, POLLIN, 0};
  int count = 0;
  do {
    count = ::poll(&entry, 1, timeout_ms);
  } while (count < 0 && errno == EINTR);
  return count > 0;
}

// systemd's protocol: "READY=1" as a datagram to the socket in NOTIFY_SOCKET, where there is one. A
// name that begins with '@' is an abstract one.
absl::Status SayReady() {
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr || *name == '\0') return absl::OkStatus();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(name);
  if (length >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(Cat("NOTIFY_SOCKET: '", name, "' is too long"));
  std::memcpy(address.sun_path, name, length);
  if (*name == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view kReady = "READY=1";
  if (!socket.valid() ||
      ::sendto(socket.get(), kReady.data(), kReady.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length)) < 0) {
    return absl::ErrnoToStatus(errno, Cat("NOTIFY_SOCKET '", name, "'"));
  }
  return absl::OkStatus();
}

}  // namespace

int RunProgram(const ProgramInfo& program, int argc, char** argv, const FlagList& flags,
               const std::function<int()>& run) {
  Command command{.name = program.name, .summary = program.summary};
  command.flags = flags;
  command.reads_config = true;
  command.run = run;
  return RunCommandLine(&command, std::vector<std::string>(argv + 1, argv + argc));
}

int FailStart(std::string_view program, const absl::Status& status) {
  PrintError(program, status);
  return kExitBadStart;
}

void PrepareProcess(const std::string& log_name, const LogSettings& log) {
  InitLogging(log_name, log.level, log.format);
  ::umask(0077);
  ::signal(SIGPIPE, SIG_IGN);
}

absl::StatusOr<StopSignals> StopSignals::Catch() {
  const sigset_t set = StopSet();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "signalfd");
  return StopSignals(std::move(fd));
}

bool StopSignals::pending() const { return Readable(fd_.get(), 0); }

int StopSignals::Wait() const {
  Readable(fd_.get(), -1);
  sigset_t waiting;
  ::sigpending(&waiting);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (::sigismember(&waiting, signal) == 1) return signal;
  }
  return 0;
}

absl::StatusOr<ReadyFile> ReadyFile::Write(const std::string& path, const std::string& text) {
  if (path.empty()) {
    TANDEM_RETURN_IF_ERROR(SayReady());
    return ReadyFile("");
  }
  const std::string temporary = Cat(path, ".", ::getpid());
  const auto failed = [&](std::string_view what) {
    const absl::Status status = absl::ErrnoToStatus(errno, Cat("--ready_file: ", what, path));
    ::unlink(temporary.c_str());
    return status;
  };
  UniqueFd file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return failed("cannot create ");
  const ssize_t written = ::write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) {
    if (written >= 0) errno = ENOSPC;
    return failed("cannot write ");
  }
  file.Reset();
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("cannot create ");
  TANDEM_RETURN_IF_ERROR(SayReady());
  return ReadyFile(path);
}

ReadyFile::~ReadyFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace tandem
