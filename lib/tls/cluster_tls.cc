#include "lib/tls/cluster_tls.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/tls/grpc_credentials.h"

namespace tandem {
namespace {

// What the process shows, for as long as it lives: channels may use it to the end.
struct ClusterIdentity {
  std::unique_ptr<Certificates> certificates;
  std::unique_ptr<GrpcCredentials> credentials;
};
ClusterIdentity* identity = nullptr;

absl::Status AddTcp(const ListenAddress& address, grpc::ServerBuilder* builder, int* port) {
  TANDEM_RETURN_IF_ERROR(CheckCanListen(address));
  builder->AddListeningPort(
      address.ToString(),
      HasClusterTls() ? identity->credentials->Server() : grpc::InsecureServerCredentials(), port);
  // Two programs on one address would answer in turns.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  return absl::OkStatus();
}

}  // namespace

absl::Status UseClusterTls(const ClusterTlsSettings& settings) {
  const TlsFiles files{.certificate = settings.cluster_cert,
                       .key = settings.cluster_key,
                       .authorities = settings.cluster_ca};
  if (!files.set()) return absl::OkStatus();
  if (files.authorities.empty()) {
    return absl::InvalidArgumentError(
        "--cluster_ca: expected the authority of the cluster's certificates, found none");
  }
  auto made = std::make_unique<ClusterIdentity>();
  absl::StatusOr<std::unique_ptr<Certificates>> certificates = Certificates::Open(files);
  if (!certificates.ok()) return Annotate(certificates.status(), "--cluster_cert");
  made->certificates = *std::move(certificates);
  TANDEM_ASSIGN_OR_RETURN(made->credentials, GrpcCredentials::Create(*made->certificates));
  TANDEM_CHECK(identity == nullptr);
  identity = made.release();
  return absl::OkStatus();
}

bool HasClusterTls() { return identity != nullptr; }

std::shared_ptr<grpc::ChannelCredentials> ClusterChannelCredentials(std::string_view address) {
  const bool tls = HasClusterTls() && !address.starts_with("unix:");
  return tls ? identity->credentials->Channel() : grpc::InsecureChannelCredentials();
}

absl::StatusOr<std::unique_ptr<ClusterPort>> ClusterPort::Open(std::string_view flag,
                                                               std::string_view text,
                                                               grpc::ServerBuilder* builder) {
  absl::StatusOr<ListenAddress> address =
      HasClusterTls() ? ParseListenAddress(text) : InnerListenAddress(flag, text);
  if (!address.ok()) return HasClusterTls() ? Annotate(address.status(), flag) : address.status();
  std::unique_ptr<ClusterPort> self(new ClusterPort(*std::move(address)));
  absl::Status status;
  if (self->address_.is_unix()) {
    absl::StatusOr<std::unique_ptr<UnixListener>> listener =
        UnixListener::Listen(self->address_.unix_path);
    status = listener.status();
    if (listener.ok()) self->listener_ = *std::move(listener);
    self->acceptor_ = builder->experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        grpc::InsecureServerCredentials());
  } else {
    status = AddTcp(self->address_, builder, &self->port_);
  }
  if (!status.ok()) return Annotate(status, flag);
  return self;
}

void ClusterPort::Serve() {
  if (address_.is_unix()) {
    thread_ = std::thread([this] { AcceptAll(); });
  } else {
    address_.port = static_cast<std::uint16_t>(port_);
  }
}

void ClusterPort::AcceptAll() {
  while (true) {
    absl::StatusOr<UniqueFd> connection = listener_->Accept();
    if (absl::IsCancelled(connection.status())) return;
    if (!connection.ok()) {
      spdlog::critical("socket {}: nobody can connect any more: {}", listener_->path(),
                       connection.status().ToString());
      return;
    }
    // gRPC reads and writes without waiting.
    const int flags = ::fcntl(connection->get(), F_GETFL);
    if (flags < 0 || ::fcntl(connection->get(), F_SETFL, flags | O_NONBLOCK) != 0) continue;
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.fd = connection->Release();
    acceptor_->HandleNewConnection(&parameters);
  }
}

void ClusterPort::Stop() {
  if (!thread_.joinable()) return;
  listener_->Stop();
  thread_.join();
}

ClusterPort::ClusterPort(ListenAddress address) : address_(std::move(address)) {}

ClusterPort::~ClusterPort() { Stop(); }

}  // namespace tandem
