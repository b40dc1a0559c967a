#include "lib/service/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"

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

}  // namespace

int RunProgram(const ProgramInfo& program, int argc, char** argv, FlagList* flags,
               const std::function<int()>& run) {
  bool help = false;
  bool version = false;
  flags->Switch("help", &help, "print this and end");
  flags->Switch("version", &version, "print the version and end");
  const absl::StatusOr<std::vector<std::string>> words =
      flags->Parse(std::vector<std::string>(argv + 1, argv + argc));
  if (!words.ok()) return FailStart(program.name, words.status());
  if (help) {
    std::printf("%s: %s\n\n%s", program.name.c_str(), program.summary.c_str(),
                flags->Help().c_str());
    return 0;
  }
  if (version) {
    std::printf("%s %s\n", program.name.c_str(), kVersion);
    return 0;
  }
  if (!words->empty()) {
    return FailStart(program.name, absl::InvalidArgumentError(
                                       Cat("expected flags only, found '", words->front(), "'")));
  }
  return run();
}

int FailStart(std::string_view program, const absl::Status& status) {
  const std::string line = Cat(program, ": error: ", status.message(), "\n");
  std::fputs(line.c_str(), stderr);
  return kExitBadStart;
}

void PrepareProcess(const std::string& log_name, LogLevel log_level) {
  InitLogging(log_name, log_level);
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
  if (path.empty()) return ReadyFile("");
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
  return ReadyFile(path);
}

ReadyFile::~ReadyFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace tandem
