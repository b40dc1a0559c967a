#include "lib/sandbox/sandbox.h"

#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// What every process does: memory, threads, files, time, waiting, and talking.
constexpr const char* kCommon[] = {
    // memory
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mmap",
    "mprotect", "mremap", "msync", "munlock", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    // threads
    "arch_prctl", "exit", "exit_group", "futex", "futex_waitv", "get_robust_list", "getcpu", "rseq",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_setaffinity", "sched_yield", "set_robust_list",
    "set_tid_address",
    // itself
    "capget", "get_mempolicy", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit",
    "getrusage", "getsid", "gettid", "getuid", "prctl", "setpriority", "sysinfo", "times", "umask",
    "uname",
    // signals
    "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "sigaltstack", "signalfd", "signalfd4",
    // time
    "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday",
    "nanosleep", "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    // waiting
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select", "inotify_add_watch",
    "inotify_init1", "inotify_rm_watch",
    // files
    "access", "chdir", "chmod", "close", "close_range", "copy_file_range", "creat", "dup", "dup2",
    "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchmod", "fchmodat", "fcntl",
    "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents",
    "getdents64", "getxattr", "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat",
    "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "symlink",
    "symlinkat", "sync_file_range", "truncate", "unlink", "unlinkat", "utimensat", "write",
    "writev",
    // sockets of the families below
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    "socketpair"};

// What leads out of a process or deep into the kernel. No kind does any of it.
constexpr const char* kNever[] = {
    // other programs and other processes
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
    "process_madvise", "pidfd_getfd", "kcmp", "personality",
    // other rights and other views of the system
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid",
    "setgroups", "capset", "chroot", "pivot_root", "unshare", "setns", "mount", "umount2", "fsopen",
    "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
    "open_by_handle_at", "name_to_handle_at", "mknod", "mknodat", "chown", "fchown", "lchown",
    "fchownat", "setxattr", "lsetxattr", "fsetxattr",
    // the machine
    "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "swapon", "swapoff", "sethostname", "setdomainname", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex", "acct", "quotactl", "syslog", "iopl", "ioperm", "vhangup",
    // parts of the kernel with a history
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "keyctl", "add_key", "request_key", "lookup_dcookie", "modify_ldt",
    "uselib", "nfsservctl", "fanotify_init"};

// Whom each kind talks to and what it controls. AF_NETLINK is how host names are resolved.
struct KindRules {
  bool resolves_names = false;
  // Of /dev/udmabuf and of the dma-bufs that come from it.
  bool shares_device_memory = false;
};
KindRules RulesOf(SandboxKind kind) {
  return {.resolves_names = kind == SandboxKind::kGateway,
          .shares_device_memory = kind == SandboxKind::kLoader || kind == SandboxKind::kCpuWorker};
}

constexpr int kFamilies[] = {AF_UNIX, AF_INET, AF_INET6};
// Of sockets, pipes and the terminal that a log may be.
constexpr unsigned kPlainControls[] = {FIONBIO, FIONREAD, FIOCLEX, TCGETS, TIOCGWINSZ};
constexpr unsigned kControlTypeMask = 0xff00;
constexpr char kMemoryControlTypes[] = {'u', 'b'};

absl::Status Failed(const char* what, int error) {
  return absl::FailedPreconditionError(
      absl::StrCat("sandbox: ", what, ": ", std::strerror(-error)));
}

// Of a call that this architecture or this libseccomp does not know nothing is said.
absl::Status Say(const Filter& filter, std::uint32_t action, const char* name) {
  const int call = seccomp_syscall_resolve_name(name);
  if (call == __NR_SCMP_ERROR || call < 0) return absl::OkStatus();
  const int error = seccomp_rule_add(filter.get(), action, call, 0);
  return error == 0 ? absl::OkStatus() : Failed(name, error);
}

// Threads, but no processes. clone3 hides its flags behind a pointer: without it glibc takes clone.
absl::Status SayThreads(const Filter& filter) {
  const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  return error == 0 ? absl::OkStatus() : Failed("clone", error);
}

// Signals (abort() sends one) and limits: its own alone.
absl::Status SayItself(const Filter& filter) {
  const auto self = static_cast<scmp_datum_t>(::getpid());
  for (const int call : {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                         SCMP_SYS(rt_tgsigqueueinfo), SCMP_SYS(prlimit64)}) {
    const int error =
        seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, self));
    if (error != 0) return Failed("signals", error);
  }
  const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
                                     SCMP_A0(SCMP_CMP_EQ, 0));
  return error == 0 ? absl::OkStatus() : Failed("prlimit64", error);
}

absl::Status SaySocket(const Filter& filter, int family) {
  const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                     SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family)));
  return error == 0 ? absl::OkStatus() : Failed("socket", error);
}

absl::Status SayControl(const Filter& filter, unsigned mask, unsigned value) {
  const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                     SCMP_A1(SCMP_CMP_MASKED_EQ, mask, value));
  return error == 0 ? absl::OkStatus() : Failed("ioctl", error);
}

// Everything but what nobody needs.
absl::Status SayDriver(const Filter& filter) {
  for (const char* name : kNever) TANDEM_RETURN_IF_ERROR(Say(filter, SCMP_ACT_ERRNO(EPERM), name));
  return absl::OkStatus();
}

absl::Status SayStrict(const Filter& filter, const KindRules& rules) {
  for (const char* name : kCommon) TANDEM_RETURN_IF_ERROR(Say(filter, SCMP_ACT_ALLOW, name));
  for (const char* name : kNever) TANDEM_RETURN_IF_ERROR(Say(filter, SCMP_ACT_ERRNO(EPERM), name));
  TANDEM_RETURN_IF_ERROR(SayThreads(filter));
  TANDEM_RETURN_IF_ERROR(SayItself(filter));
  for (const int family : kFamilies) TANDEM_RETURN_IF_ERROR(SaySocket(filter, family));
  if (rules.resolves_names) TANDEM_RETURN_IF_ERROR(SaySocket(filter, AF_NETLINK));
  for (const unsigned control : kPlainControls)
    TANDEM_RETURN_IF_ERROR(SayControl(filter, ~0U, control));
  if (!rules.shares_device_memory) return absl::OkStatus();
  for (const char type : kMemoryControlTypes)
    TANDEM_RETURN_IF_ERROR(SayControl(filter, kControlTypeMask, static_cast<unsigned>(type) << 8));
  return absl::OkStatus();
}

}  // namespace

absl::Status EnterSandbox(SandboxKind kind) {
  if (kSanitized) return absl::OkStatus();
  const bool driver = kind == SandboxKind::kDriverWorker;
  const Filter filter(seccomp_init(driver ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS)),
                      &seccomp_release);
  if (filter == nullptr) return absl::FailedPreconditionError("sandbox: no filter");
  // All threads at once, those of a driver too; and a search instead of a walk through the list.
  for (const auto& [attribute, value] :
       {std::pair(SCMP_FLTATR_CTL_TSYNC, 1U), std::pair(SCMP_FLTATR_CTL_OPTIMIZE, 2U)}) {
    if (const int error = seccomp_attr_set(filter.get(), attribute, value); error != 0)
      return Failed("attribute", error);
  }
  TANDEM_RETURN_IF_ERROR(driver ? SayDriver(filter) : SayStrict(filter, RulesOf(kind)));
  // Nor may others of the same user look into it, be it through /proc or a core file: there are
  // prompts and keys in it.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return Failed("dumpable", -errno);
  const int error = seccomp_load(filter.get());
  return error == 0 ? absl::OkStatus() : Failed("seccomp", error);
}

}  // namespace tandem
