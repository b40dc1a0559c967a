#include "lib/base/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/base/deadline.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// How often a listener without a free descriptor looks again.
constexpr int kRetryMilliseconds = 50;

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "': expected 1 to ",
                                                   sizeof(address.sun_path) - 1, " bytes, found ",
                                                   path.size()));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "unix socket");
  return fd;
}

// Waits until `fd` has `events`, not past `deadline`.
absl::Status PollUntil(int fd, short events, Deadline deadline) {
  while (true) {
    const std::int64_t left =
        absl::ToInt64Milliseconds(absl::Ceil(deadline.left(), absl::Milliseconds(1)));
    if (left <= 0) return absl::DeadlineExceededError("unix socket: timed out");
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
  }
}

struct ControlBuffer {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage)> bytes{};
};

void TakeDescriptors(msghdr* header, std::vector<UniqueFd>* fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(header); c != nullptr; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
}

// Reads exactly `size` bytes, collecting descriptors that arrive with them.
absl::Status ReadFully(int socket, char* out, std::size_t size, Deadline deadline,
                       std::vector<UniqueFd>* fds, bool end_is_ok) {
  std::size_t done = 0;
  while (done < size) {
    TANDEM_RETURN_IF_ERROR(PollUntil(socket, POLLIN, deadline));
    ControlBuffer control;
    iovec part{out + done, size - done};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes.data();
    header.msg_controllen = control.bytes.size();
    const ssize_t got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "unix socket: receiving");
    TakeDescriptors(&header, fds);
    if ((header.msg_flags & MSG_CTRUNC) != 0 && fds->size() < kMaxFdsPerMessage) {
      return absl::ResourceExhaustedError(
          "unix socket message: descriptors were lost: raise the limit of open files");
    }
    if ((header.msg_flags & MSG_CTRUNC) != 0 || fds->size() > kMaxFdsPerMessage) {
      return absl::InvalidArgumentError(absl::StrCat(
          "unix socket message: expected at most ", kMaxFdsPerMessage, " descriptors, found more"));
    }
    if (got == 0) {
      if (done == 0 && end_is_ok) return absl::OutOfRangeError("unix socket: closed by the peer");
      return absl::UnavailableError("unix socket: closed by the peer in the middle of a message");
    }
    done += static_cast<std::size_t>(got);
  }
  return absl::OkStatus();
}

std::array<unsigned char, 4> LittleEndian(std::uint32_t v) {
  return {static_cast<unsigned char>(v), static_cast<unsigned char>(v >> 8),
          static_cast<unsigned char>(v >> 16), static_cast<unsigned char>(v >> 24)};
}

// Removes a socket file that nobody listens on.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat("'", path, "': expected a socket or nothing, found another file"));
  }
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd probe, NewSocket());
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return absl::AlreadyExistsError(absl::StrCat("'", path, "': somebody listens there already"));
  }
  ::unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<unsigned> PeerUid(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return absl::ErrnoToStatus(errno, "unix socket: peer credentials");
  }
  return credentials.uid;
}

absl::Status CheckPeer(int socket) {
  TANDEM_ASSIGN_OR_RETURN(const unsigned uid, PeerUid(socket));
  if (uid == ::getuid() || uid == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("unix socket peer: expected uid ", ::getuid(), ", found uid ", uid));
}

absl::StatusOr<UniqueFd> ListenUnix(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  TANDEM_RETURN_IF_ERROR(RemoveStale(path, address));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  // The mode is set before bind can be followed by a connect: fchmod on the unbound socket decides
  // the file's mode.
  ::fchmod(fd.get(), 0600);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("binding '", path, "'"));
  }
  if (::chmod(path.c_str(), 0600) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("mode of '", path, "'"));
  if (::listen(fd.get(), 64) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("listening at '", path, "'"));
  return fd;
}

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Listen(const std::string& path) {
  std::unique_ptr<UnixListener> listener(new UnixListener(path));
  listener->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!listener->stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  TANDEM_ASSIGN_OR_RETURN(listener->listener_, ListenUnix(path));
  // Another process may take a connection away between poll and accept: that must not block.
  ::fcntl(listener->listener_.get(), F_SETFL, O_NONBLOCK);
  listener->TakeSpare();
  return listener;
}

UnixListener::~UnixListener() {
  if (listener_.valid()) ::unlink(path_.c_str());
}

void UnixListener::Stop() {
  const std::uint64_t one = 1;
  TANDEM_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
}

void UnixListener::TakeSpare() {
  if (!spare_.valid()) spare_ = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (spare_.valid() && std::exchange(starved_, false))
    spdlog::info("socket {}: there are free descriptors again", path_);
}

void UnixListener::Starved(int error) {
  if (!std::exchange(starved_, true)) {
    spdlog::error("socket {}: a connection must wait: {}: raise the limit of open files", path_,
                  std::strerror(error));
  }
  if (spare_.valid()) {
    spare_.Reset();
    return;
  }
  // The backlog stays readable: only time, or Stop, can change anything.
  pollfd entry{stop_.get(), POLLIN, 0};
  ::poll(&entry, 1, kRetryMilliseconds);
}

absl::StatusOr<UniqueFd> UnixListener::Accept() {
  TakeSpare();
  while (true) {
    std::array<pollfd, 2> entries{{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, "poll");
    }
    if (entries[1].revents != 0) return absl::CancelledError("unix socket: stopped");
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      if (CheckPeer(fd.get()).ok()) return fd;
      continue;
    }
    switch (errno) {
      case EINTR:
      case ECONNABORTED:
      case EAGAIN:
        break;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        Starved(errno);
        break;
      default:
        return absl::ErrnoToStatus(errno, "unix socket: accept");
    }
  }
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, absl::Duration timeout) {
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  // A connect to a local socket blocks only while the listener's backlog is full.
  const timeval limit = absl::ToTimeval(timeout);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("connecting to '", path, "'"));
  }
  TANDEM_RETURN_IF_ERROR(CheckPeer(fd.get()));
  return fd;
}

absl::Status SendFdMessage(int socket, std::string_view bytes, const std::vector<int>& fds,
                           absl::Duration timeout) {
  const Deadline deadline = Deadline::After(timeout);
  if (bytes.size() > kMaxFdMessageBytes || fds.size() > kMaxFdsPerMessage) {
    return absl::InvalidArgumentError(
        absl::StrCat("unix socket message: expected at most ", kMaxFdMessageBytes, " bytes and ",
                     kMaxFdsPerMessage, " descriptors, found ", bytes.size(), " and ", fds.size()));
  }
  const std::array<unsigned char, 4> length =
      LittleEndian(static_cast<std::uint32_t>(bytes.size()));
  std::string wire(reinterpret_cast<const char*>(length.data()), length.size());
  wire.append(bytes);
  std::size_t done = 0;
  while (done < wire.size()) {
    ControlBuffer control;
    iovec part{wire.data() + done, wire.size() - done};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (done == 0 && !fds.empty()) {
      header.msg_control = control.bytes.data();
      header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    TANDEM_RETURN_IF_ERROR(PollUntil(socket, POLLOUT, deadline));
    const ssize_t sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return absl::ErrnoToStatus(errno, "unix socket: sending");
    done += static_cast<std::size_t>(sent);
  }
  return absl::OkStatus();
}

absl::StatusOr<FdMessage> ReceiveFdMessage(int socket, absl::Duration timeout) {
  const Deadline deadline = Deadline::After(timeout);
  FdMessage message;
  std::array<char, 4> header{};
  TANDEM_RETURN_IF_ERROR(
      ReadFully(socket, header.data(), header.size(), deadline, &message.fds, /*end_is_ok=*/true));
  std::uint32_t size = 0;
  for (int i = 3; i >= 0; --i)
    size = size << 8 | static_cast<unsigned char>(header[static_cast<std::size_t>(i)]);
  if (size > kMaxFdMessageBytes) {
    return absl::InvalidArgumentError(absl::StrCat("unix socket message: expected at most ",
                                                   kMaxFdMessageBytes, " bytes, found ", size));
  }
  message.bytes.resize(size);
  TANDEM_RETURN_IF_ERROR(
      ReadFully(socket, message.bytes.data(), size, deadline, &message.fds, /*end_is_ok=*/false));
  return message;
}

}  // namespace tandem
