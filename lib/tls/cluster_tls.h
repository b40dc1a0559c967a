#pragma once

#include <memory>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/unix_socket.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/listen_address.h"
#include "lib/tls/certificates.h"

namespace grpc {
class ChannelCredentials;
class Server;
class ServerBuilder;
namespace experimental {
class ExternalConnectionAcceptor;
}
}  // namespace grpc

namespace tandem {

// How the processes of a cluster believe each other. Over a Unix socket by the user they run as
// (SO_PEERCRED); over TCP by certificates of one authority, which both sides show; over TCP without
// certificates not at all, which is why that is for loopback.

// The certificate that this process shows to the others. Once, before any port or channel is made.
// With empty settings it has none.
absl::Status UseClusterTls(const ClusterTlsSettings& settings);
bool HasClusterTls();

// For channels to another process of the cluster at `address`.
std::shared_ptr<grpc::ChannelCredentials> ClusterChannelCredentials(std::string_view address);

// A port for the other processes of the cluster.
class ClusterPort {
 public:
  // Parses `text` and adds the port to `builder`. INVALID_ARGUMENT for an address that other
  // machines reach while there is no certificate; errors begin with `flag`.
  static absl::StatusOr<std::unique_ptr<ClusterPort>> Open(std::string_view flag,
                                                           std::string_view text,
                                                           grpc::ServerBuilder* builder);
  // Stops.
  ~ClusterPort();

  // Once the server runs: connections are taken from now on.
  void Serve();
  // Takes no further ones; before the server is shut down.
  void Stop();
  // After Serve with the port that the system chose.
  const ListenAddress& address() const { return address_; }

 private:
  explicit ClusterPort(ListenAddress address);
  void AcceptAll();

  ListenAddress address_;
  int port_ = 0;
  // For a Unix socket: the listener that looks who calls, and what takes the connections.
  std::unique_ptr<UnixListener> listener_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::thread thread_;
};

}  // namespace tandem
