#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/tls/certificates.h"

namespace grpc {
class ChannelCredentials;
class ServerCredentials;
namespace experimental {
class CertificateProviderInterface;
}
}  // namespace grpc

namespace tandem {

// gRPC's credentials of a process's certificate, new connections with the newest one. gRPC reads
// files only, and takes what it finds there: it is shown files in memory that hold nothing but what
// was checked. Thread-safe.
class GrpcCredentials {
 public:
  // `certificates` must be destroyed first.
  static absl::StatusOr<std::unique_ptr<GrpcCredentials>> Create(Certificates& certificates);

  // With authorities in `certificates`, clients must show a certificate of theirs.
  std::shared_ptr<grpc::ServerCredentials> Server() const;
  // Shows the own certificate, believes the authorities, and checks the server's name or address.
  std::shared_ptr<grpc::ChannelCredentials> Channel() const;

 private:
  GrpcCredentials() = default;
  // Descriptors whose numbers stay: what they stand for is exchanged.
  UniqueFd identity_;
  UniqueFd authorities_;
  bool asks_peers_ = false;
  std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider_;
};

}  // namespace tandem
