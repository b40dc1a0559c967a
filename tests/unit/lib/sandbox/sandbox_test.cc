#include "lib/sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <tuple>

namespace tandem {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Runs `body` in a process of its own, which is in the sandbox. True when it says so.
bool Holds(SandboxKind kind, const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const absl::Status entered = EnterSandbox(kind);
    if (!entered.ok()) {
      std::fprintf(stderr, "%s\n", entered.ToString().c_str());
      ::_exit(2);
    }
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool Refused(long result) { return result == -1 && (errno == EPERM || errno == ENOSYS); }

class SandboxTest : public ::testing::TestWithParam<SandboxKind> {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "sanitizers need what the sandbox takes away";
  }
  bool strict() const { return GetParam() != SandboxKind::kDriverWorker; }
};

TEST_P(SandboxTest, NoProgramCanBeStarted) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    char* const arguments[] = {const_cast<char*>("/bin/true"), nullptr};
    char* const environment[] = {nullptr};
    return Refused(::execve(arguments[0], arguments, environment));
  }));
}

TEST_P(SandboxTest, NoOtherProcessCanBeReached) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    return Refused(::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr)) &&
           Refused(::syscall(SYS_process_vm_readv, ::getppid(), nullptr, 0, nullptr, 0, 0)) &&
           Refused(::syscall(SYS_pidfd_getfd, 0, 0, 0));
  }));
}

TEST_P(SandboxTest, NoOtherProcessCanBeSignalledOrLooksIn) {
  EXPECT_TRUE(Holds(GetParam(), [] { return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0; }));
  if (!strict()) return;
  EXPECT_TRUE(Holds(GetParam(), [] {
    return Refused(::kill(::getppid(), 0)) && ::kill(::getpid(), 0) == 0 &&
           Refused(::syscall(SYS_prlimit64, ::getppid(), RLIMIT_NOFILE, nullptr, nullptr));
  }));
}

TEST_P(SandboxTest, NoOtherRightsAndNoOtherViewOfTheSystem) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    return Refused(::setuid(0)) && Refused(::chroot("/")) && Refused(::unshare(0)) &&
           Refused(::mount("none", "/", "tmpfs", 0, nullptr)) &&
           Refused(::syscall(SYS_bpf, 0, nullptr, 0)) &&
           Refused(::syscall(SYS_io_uring_setup, 1, nullptr)) &&
           Refused(::syscall(SYS_keyctl, 0, 0, 0, 0, 0)) &&
           ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  }));
}

TEST_P(SandboxTest, NoProcessCanBeForkedButThreadsRun) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    std::atomic<bool> ran = false;
    std::thread([&] { ran = true; }).join();
    return ran.load();
  }));
  if (!strict()) return;
  EXPECT_TRUE(Holds(GetParam(), [] { return Refused(::fork()); }));
}

TEST_P(SandboxTest, OnlySocketsThatItTalksThrough) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 &&
           ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
  }));
  if (!strict()) return;
  EXPECT_TRUE(Holds(GetParam(), [] { return Refused(::socket(AF_PACKET, SOCK_RAW, 0)); }));
}

TEST_P(SandboxTest, FilesAndMemoryAreThere) {
  EXPECT_TRUE(Holds(GetParam(), [] {
    std::ifstream in("/proc/self/status");
    std::string line;
    bool filtered = false;
    while (std::getline(in, line)) filtered = filtered || line == "Seccomp:\t2";
    const int memory = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return filtered && ::ftruncate(memory, 4096) == 0 &&
           ::fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0 &&
           ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memory, 0) != MAP_FAILED;
  }));
}

// Threads that run already are in it as well.
TEST_P(SandboxTest, HoldsForEveryThread) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::atomic<bool> entered = false;
    bool refused = false;
    std::thread early([&] {
      while (!entered) std::this_thread::yield();
      refused = Refused(::syscall(SYS_bpf, 0, nullptr, 0));
    });
    const bool ok = EnterSandbox(GetParam()).ok();
    entered = true;
    early.join();
    ::_exit(ok && refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, SandboxTest,
                         ::testing::Values(SandboxKind::kGateway, SandboxKind::kLoader,
                                           SandboxKind::kCpuWorker, SandboxKind::kDriverWorker));

}  // namespace
}  // namespace tandem
