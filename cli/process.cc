#include "cli/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// Between fork and exec: only calls that are safe there.
[[noreturn]] void BecomeProgram(char* const* arguments, int log, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // the parent was gone before the line above took effect
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv(arguments[0], arguments);
  ::_exit(127);
}

}  // namespace

absl::StatusOr<ChildProcess> Spawn(const std::vector<std::string>& command,
                                   const std::string& log_file) {
  if (::access(command.front().c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        absl::StrCat("program '", command.front(), "': ", std::strerror(errno)));
  }
  const UniqueFd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("log file '", log_file, "'"));
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) BecomeProgram(arguments.data(), log.get(), parent);
  ChildProcess child;
  child.pid = pid;
  child.pidfd = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd.valid()) {
    const int error = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(error, "pidfd_open (Linux 5.3 or newer is needed)");
  }
  return child;
}

std::string DescribeExit(int wait_status) {
  if (WIFEXITED(wait_status)) return absl::StrCat("exit code ", WEXITSTATUS(wait_status));
  if (WIFSIGNALED(wait_status)) {
    return absl::StrCat("signal ", WTERMSIG(wait_status), " (", ::strsignal(WTERMSIG(wait_status)),
                        ")");
  }
  return absl::StrCat("wait status ", wait_status);
}

std::string LastErrorLine(const std::string& log_file) {
  constexpr std::string_view kMark = ": error: ";
  std::ifstream in(log_file);
  std::string last;
  std::string last_error;
  std::string message;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    const std::size_t mark = line.find(kMark);
    if (line.starts_with("tandem-") && mark == line.find(':'))
      message = line.substr(mark + kMark.size());
    if (line.find("error") != std::string::npos) last_error = line;
    last = std::move(line);
  }
  if (!message.empty()) return message;
  return last_error.empty() ? last : last_error;
}

void RotateLog(const std::string& log_file) {
  std::rename(log_file.c_str(), (log_file + ".1").c_str());
}

}  // namespace tandem
