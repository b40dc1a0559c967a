#include "lib/service/listen_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/unix_socket.h"

namespace tandem {
namespace {

constexpr int kBacklog = 1024;

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family != AF_INET6) return false;
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::Status Resolve(ListenAddress& address, bool numeric_only) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return absl::NotFoundError(
        Cat("host '", address.host, "' does not resolve: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &freeaddrinfo);
  address.loopback = true;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    address.loopback = address.loopback && IsLoopback(entry->ai_addr);
  }
  char text[NI_MAXHOST];
  const int failed = getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), nullptr, 0,
                                 NI_NUMERICHOST);
  if (failed != 0) {
    return absl::NotFoundError(Cat("host '", address.host, "': ", gai_strerror(failed)));
  }
  address.ip = text;
  return absl::OkStatus();
}

std::string CannotListen(const ListenAddress& address) {
  return Cat("cannot listen on ", address.ToString());
}

absl::StatusOr<UniqueFd> BindTcp(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.ip.c_str(), std::to_string(address.port).c_str(), &hints, &found) != 0)
    return absl::InvalidArgumentError(CannotListen(address));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &freeaddrinfo);
  UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  // As servers do: connections that linger do not count, one that listens does.
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0)
    return absl::UnavailableError(Cat(CannotListen(address), ": ", std::strerror(errno)));
  return fd;
}

// "numeric_only": no names but localhost, so that nothing is asked of a name server.
absl::StatusOr<ListenAddress> Parse(std::string_view text, bool numeric_only) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        Cat("expected host:port, [ipv6]:port or unix:/path, found '", text, "'"));
  };
  ListenAddress address;
  if (text.starts_with("unix:")) {
    std::string_view path = text.substr(5);
    if (path.starts_with("//")) path.remove_prefix(2);  // unix:///path
    if (path.empty() || path.front() != '/') return bad();
    address.unix_path = std::string(path);
    address.loopback = true;
    return address;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad();
  std::string_view host = text.substr(0, colon);
  std::uint32_t port = 0;
  const std::string_view digits = text.substr(colon + 1);
  if (digits.empty() || digits.front() == '+' || !absl::SimpleAtoi(AbslView(digits), &port) ||
      port > 65535) {
    return bad();
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad();
  }
  if (host.empty()) return bad();
  address.host = std::string(host);
  address.port = static_cast<std::uint16_t>(port);
  TANDEM_RETURN_IF_ERROR(Resolve(address, numeric_only && address.host != "localhost"));
  return address;
}

}  // namespace

std::string ListenAddress::ToString() const {
  if (is_unix()) return Cat("unix:", unix_path);
  const std::string& name = ip.empty() ? host : ip;
  if (name.find(':') != std::string::npos) return Cat("[", name, "]:", port);
  return Cat(name, ":", port);
}

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text) {
  return Parse(text, /*numeric_only=*/false);
}

absl::StatusOr<ListenAddress> CheckedListenAddress(std::string_view flag, std::string_view text,
                                                   PortGuards guards) {
  absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (!address.ok()) return Annotate(address.status(), flag);
  if (!address->loopback && !guards.insecure && !(guards.api_key && guards.tls)) {
    const std::string_view missing = guards.api_key ? "TLS: set --tls_cert and --tls_key"
                                     : guards.tls   ? "an API key: set --api_key_file"
                                                    : "an API key and TLS: set --api_key_file, "
                                                      "--tls_cert and --tls_key";
    return absl::PermissionDeniedError(
        Cat(flag, ": refusing to listen on ", text, ", which other machines can reach, without ",
            missing, "; or listen on 127.0.0.1 or a Unix socket; or accept it with --insecure"));
  }
  return address;
}

absl::StatusOr<ListenAddress> InnerListenAddress(std::string_view flag, std::string_view text) {
  absl::StatusOr<ListenAddress> address = Parse(text, /*numeric_only=*/true);
  if (!address.ok() || !address->loopback) {
    return absl::InvalidArgumentError(
        Cat(flag, ": expected unix:/path or a loopback address such as 127.0.0.1:0, found '", text,
            "'"));
  }
  return address;
}

absl::StatusOr<UniqueFd> Listen(ListenAddress* address) {
  const auto failed = [&](std::string_view why) {
    return absl::UnavailableError(Cat(CannotListen(*address), ": ", why));
  };
  if (address->is_unix()) {
    absl::StatusOr<UniqueFd> fd = ListenUnix(address->unix_path);
    if (!fd.ok()) return failed(std::string(fd.status().message()));
    // Whoever connected may have left again.
    if (::fcntl(fd->get(), F_SETFL, O_NONBLOCK) != 0) return failed(std::strerror(errno));
    return fd;
  }
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, BindTcp(*address));
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::listen(fd.get(), kBacklog) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return failed(std::strerror(errno));
  address->port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
  return fd;
}

absl::Status CheckCanListen(const ListenAddress& address) {
  if (address.is_unix()) {
    if (!ConnectUnix(address.unix_path, absl::Seconds(1)).ok()) return absl::OkStatus();
    return absl::AlreadyExistsError(
        Cat(CannotListen(address), ": a process listens there already"));
  }
  return BindTcp(address).status();
}

}  // namespace tandem
