// The Unix socket that carries descriptors: any bytes, with any number of descriptors attached,
// give messages within their bounds or an error, and no descriptor stays open.
//
// The first byte says how many descriptors come with the rest, and the second where the rest is cut
// in two.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/unix_socket.h"

namespace {

constexpr int kMostAttached = 12;

// The lowest free number: higher than before when something was left open.
int NextDescriptor() {
  const tandem::UniqueFd probe(open("/dev/null", O_RDONLY | O_CLOEXEC));
  TANDEM_CHECK(probe.valid());
  return probe.get();
}

void SendRaw(int socket, const std::uint8_t* data, std::size_t size, int attached, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostAttached)] = {};
  iovec part{const_cast<std::uint8_t*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (attached > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * static_cast<std::size_t>(attached));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<std::size_t>(attached));
    const std::vector<int> fds(static_cast<std::size_t>(attached), fd);
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || size > (1 << 16)) return 0;
  static const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int before = NextDescriptor();
  {
    int ends[2];
    TANDEM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    tandem::UniqueFd sender(ends[0]);
    const tandem::UniqueFd receiver(ends[1]);
    const int attached = data[0] % (kMostAttached + 1);
    const std::size_t cut = 2 + data[1] % (size - 2);
    if (cut > 2) SendRaw(sender.get(), data + 2, cut - 2, attached, null);
    SendRaw(sender.get(), data + cut, size - cut, attached, null);
    sender.Reset();
    while (true) {
      const auto message = tandem::ReceiveFdMessage(receiver.get(), absl::Seconds(10));
      if (!message.ok()) {
        TANDEM_CHECK(!absl::IsDeadlineExceeded(message.status()));
        break;
      }
      TANDEM_CHECK(message->bytes.size() <= tandem::kMaxFdMessageBytes);
      TANDEM_CHECK(message->fds.size() <= tandem::kMaxFdsPerMessage);
    }
  }
  TANDEM_CHECK(NextDescriptor() == before);
  return 0;
}
