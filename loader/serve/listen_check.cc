#include "loader/serve/listen_check.h"

#include <arpa/inet.h>

#include <cstddef>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr char kUnix[] = "unix:";
constexpr std::size_t kUnixLength = sizeof(kUnix) - 1;

bool IsLoopback(const std::string& host) {
  if (host == "localhost" || host == "[::1]") return true;
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

}  // namespace

absl::Status CheckListenAddress(const std::string& address) {
  if (address.starts_with(kUnix) && address.size() > kUnixLength) {
    const std::string path = address.substr(kUnixLength);
    if (!ConnectUnix(path, absl::Seconds(1)).ok()) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("--listen: '", path, "': somebody listens there already"));
  }
  const std::size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string::npos && absl::SimpleAtoi(address.substr(colon + 1), &port) &&
      port >= 0 && port <= 65535 && IsLoopback(address.substr(0, colon))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--listen: expected unix:/path or a loopback address such as 127.0.0.1:0, found '", address,
      "'"));
}

std::string WithPort(const std::string& address, int port) {
  if (address.starts_with(kUnix)) return address;
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

}  // namespace tandem
