// A stand-in for /dev/udmabuf on machines without it, to be preloaded into every process of a test.
// It opens the node, makes "dma-bufs" of a memfd's pages by UDMABUF_CREATE under the module's
// rules, and lets them be mapped, measured and recognised as the kernel does:
//   - the memfd is sealed against shrinking and not against writing; offset and size are whole
//     pages, at most size_limit_mb
//   - fstatfs says DMA_BUF_MAGIC, fstat says size 0, lseek(SEEK_END) says the size, mmap maps the
//     pages Such a descriptor is a socket with one message in its queue: offset, size and the memfd
//     itself. Any process that gets it can peek at the message, for as long as anybody holds the
//     descriptor, whoever made it.
//
// TANDEM_STANDIN_LIMIT_MB: the module parameter size_limit_mb (64).
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr char kNode[] = "/dev/udmabuf";
constexpr char kLimitFile[] = "/sys/module/udmabuf/parameters/size_limit_mb";
constexpr char kNodeName[] = "tandem-standin-udmabuf";
constexpr std::uint64_t kMagic = 0x66756264'6e617473;

struct Ticket {
  std::uint64_t magic = kMagic;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Without the C library's own functions: those are the ones replaced below.
int RawOpen(const char* path, int flags, mode_t mode) {
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
void* RawMap(void* at, std::size_t bytes, int protection, int flags, int fd, off_t offset) {
  return reinterpret_cast<void*>(::syscall(SYS_mmap, at, bytes, protection, flags, fd, offset));
}

std::uint64_t LimitMb() {
  const char* text = std::getenv("TANDEM_STANDIN_LIMIT_MB");
  const std::uint64_t limit = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  return limit == 0 ? 64 : limit;
}

// Both in one, so that a copy of the descriptor is told apart from any other memfd.
bool IsNode(int fd) {
  char path[64];
  char target[128] = {};
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  if (::readlink(path, target, sizeof(target) - 1) < 0) return false;
  return std::strstr(target, kNodeName) != nullptr;
}

// The message in the queue, left where it is. The memfd is the caller's to close.
bool Peek(int fd, Ticket* ticket, int* memfd) {
  struct stat info;
  if (fd < 0 || ::fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  int domain = 0;
  int type = 0;
  socklen_t size = sizeof(int);
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX)
    return false;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
    return false;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{ticket, sizeof(*ticket)};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  if (::recvmsg(fd, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) !=
      static_cast<ssize_t>(sizeof(*ticket)))
    return false;
  const cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c == nullptr || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
    return false;
  std::memcpy(memfd, CMSG_DATA(c), sizeof(int));
  if (ticket->magic == kMagic) return true;
  ::close(*memfd);
  return false;
}

bool PeekOnly(int fd, Ticket* ticket) {
  int memfd = -1;
  if (!Peek(fd, ticket, &memfd)) return false;
  ::close(memfd);
  return true;
}

int MakeTicket(const Ticket& ticket, int memfd, bool close_on_exec) {
  int ends[2];
  const int flags = SOCK_SEQPACKET | (close_on_exec ? SOCK_CLOEXEC : 0);
  if (::socketpair(AF_UNIX, flags, 0, ends) != 0) return -1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  Ticket copy = ticket;
  iovec part{&copy, sizeof(copy)};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(c), &memfd, sizeof(int));
  const ssize_t sent = ::sendmsg(ends[1], &header, MSG_NOSIGNAL);
  ::close(ends[1]);
  if (sent == static_cast<ssize_t>(sizeof(copy))) return ends[0];
  ::close(ends[0]);
  return -1;
}

int Create(const udmabuf_create& request) {
  const int memfd = static_cast<int>(request.memfd);
  const int seals = ::fcntl(memfd, F_GET_SEALS);
  struct stat info;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (seals < 0 || ::fstat(memfd, &info) != 0) {
    errno = EBADFD;
    return -1;
  }
  if ((seals & F_SEAL_SHRINK) == 0 || (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0 ||
      request.offset % page != 0 || request.size % page != 0 || request.size == 0 ||
      request.size > LimitMb() << 20 ||
      request.offset + request.size > static_cast<std::uint64_t>(info.st_size)) {
    errno = EINVAL;
    return -1;
  }
  // The pages of a dma-buf can be written, whatever the descriptor that named them allowed.
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
  const int writable = RawOpen(path, O_RDWR | O_CLOEXEC, 0);
  if (writable < 0) return -1;
  const int made = MakeTicket({kMagic, request.offset, request.size}, writable,
                              (request.flags & UDMABUF_FLAGS_CLOEXEC) != 0);
  ::close(writable);
  return made;
}

int Open(const char* path, int flags, mode_t mode) {
  const unsigned close_on_exec = (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0;
  if (std::strcmp(path, kNode) == 0) return ::memfd_create(kNodeName, close_on_exec);
  if (std::strcmp(path, kLimitFile) == 0) {
    const int file = ::memfd_create("size_limit_mb", close_on_exec);
    char text[32];
    const int size =
        std::snprintf(text, sizeof(text), "%llu\n", static_cast<unsigned long long>(LimitMb()));
    if (file >= 0 && ::pwrite(file, text, static_cast<std::size_t>(size), 0) != size) ::close(file);
    return file;
  }
  return RawOpen(path, flags, mode);
}

mode_t ModeOf(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(path, flags, mode);
}

int access(const char* path, int mode) noexcept {
  if (std::strcmp(path, kNode) == 0) return 0;
  return static_cast<int>(::syscall(SYS_access, path, mode));
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (request == UDMABUF_CREATE && IsNode(fd))
    return Create(*static_cast<const udmabuf_create*>(argument));
  Ticket ticket;
  if (request == DMA_BUF_IOCTL_SYNC && PeekOnly(fd, &ticket)) return 0;
  return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

void* mmap(void* at, std::size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  Ticket ticket;
  int memfd = -1;
  if (!Peek(fd, &ticket, &memfd)) return RawMap(at, bytes, protection, flags, fd, offset);
  void* mapped = MAP_FAILED;
  if (static_cast<std::uint64_t>(offset) + bytes > ticket.bytes) {
    errno = EINVAL;
  } else {
    mapped =
        RawMap(at, bytes, protection, flags, memfd, static_cast<off_t>(ticket.offset) + offset);
  }
  const int error = errno;
  ::close(memfd);
  errno = error;
  return mapped;
}

void* mmap64(void* at, std::size_t bytes, int protection, int flags, int fd,
             off_t offset) noexcept {
  return mmap(at, bytes, protection, flags, fd, offset);
}

off_t lseek(int fd, off_t offset, int whence) noexcept {
  Ticket ticket;
  if (!PeekOnly(fd, &ticket)) return ::syscall(SYS_lseek, fd, offset, whence);
  if (offset == 0 && whence == SEEK_END) return static_cast<off_t>(ticket.bytes);
  if (offset == 0 && whence == SEEK_SET) return 0;
  errno = EINVAL;
  return -1;
}

off_t lseek64(int fd, off_t offset, int whence) noexcept { return lseek(fd, offset, whence); }

int fstatfs(int fd, struct statfs* info) noexcept {
  const int done = static_cast<int>(::syscall(SYS_fstatfs, fd, info));
  Ticket ticket;
  if (done == 0 && PeekOnly(fd, &ticket)) info->f_type = DMA_BUF_MAGIC;
  return done;
}

}  // extern "C"
