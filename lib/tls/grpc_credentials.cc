#include "lib/tls/grpc_credentials.h"

#include <fcntl.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr unsigned kRefreshSeconds = 1;

std::string PathOf(const UniqueFd& fd) { return Cat("/proc/self/fd/", fd.get()); }

// Exchanges what `fd` stands for in one go, so that no reader sees half of it.
absl::Status Put(const std::string& text, UniqueFd* fd) {
  UniqueFd fresh(::memfd_create("tandem-tls", MFD_CLOEXEC));
  if (!fresh.valid() ||
      ::write(fresh.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return absl::ErrnoToStatus(errno, "memory for a certificate");
  }
  if (!fd->valid()) {
    *fd = std::move(fresh);
    return absl::OkStatus();
  }
  if (::dup3(fresh.get(), fd->get(), O_CLOEXEC) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "memory for a certificate");
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcCredentials>> GrpcCredentials::Create(
    Certificates& certificates) {
  std::unique_ptr<GrpcCredentials> self(new GrpcCredentials());
  self->asks_peers_ = certificates.asks_peers();
  absl::Status first;
  certificates.Follow([raw = self.get(), &first, begun = false](const TlsPems& pems) mutable {
    // Key and certificate in one file: they change together.
    absl::Status status = Put(Cat(pems.key, "\n", pems.certificate), &raw->identity_);
    if (status.ok() && raw->asks_peers_) status = Put(pems.authorities, &raw->authorities_);
    if (!status.ok()) spdlog::error("gRPC keeps the certificate before: {}", status.ToString());
    if (!begun) first = status;
    begun = true;
  });
  TANDEM_RETURN_IF_ERROR(first);
  const std::string identity = PathOf(self->identity_);
  self->provider_ = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      identity, identity, self->asks_peers_ ? PathOf(self->authorities_) : "", kRefreshSeconds);
  return self;
}

std::shared_ptr<grpc::ServerCredentials> GrpcCredentials::Server() const {
  grpc::experimental::TlsServerCredentialsOptions options(provider_);
  options.watch_identity_key_cert_pairs();
  if (asks_peers_) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> GrpcCredentials::Channel() const {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(provider_);
  options.watch_identity_key_cert_pairs();
  if (asks_peers_) options.watch_root_certs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace tandem
