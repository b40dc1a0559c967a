#pragma once

// Internal to http/: brings in OpenSSL.

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "absl/status/statusor.h"
#include "lib/tls/certificates.h"

namespace tandem {

// What new TLS connections of the HTTP port are made from: TLS 1.2 and newer, HTTP/1.1, and the
// newest certificate. One thread at a time.
class TlsContexts {
 public:
  // `certificates` outlives it; null: there is no TLS.
  explicit TlsContexts(const Certificates* certificates) : certificates_(certificates) {}

  // Null without TLS. What began with an older context goes on with it.
  std::shared_ptr<boost::asio::ssl::context> Newest();

 private:
  const Certificates* const certificates_;
  std::shared_ptr<const TlsPems> made_of_;
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace tandem
