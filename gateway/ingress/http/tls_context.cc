#include "gateway/ingress/http/tls_context.h"

#include <openssl/ssl.h>
#include <spdlog/spdlog.h>

#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>
#include <string>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

namespace ssl = boost::asio::ssl;

// RFC 7301. A client that offers other protocols only is answered in HTTP/1.1 all the same.
int ChooseProtocol(SSL*, const unsigned char** chosen, unsigned char* length,
                   const unsigned char* offered, unsigned int offered_length, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  unsigned char* found = nullptr;
  const int result =
      SSL_select_next_proto(&found, length, kHttp11, sizeof(kHttp11) - 1, offered, offered_length);
  if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

absl::StatusOr<std::shared_ptr<ssl::context>> MakeContext(const TlsPems& pems) {
  boost::system::error_code error;
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_alpn_select_cb(native, &ChooseProtocol, nullptr);
  // The memory of a connection that waits goes back.
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  context->use_certificate_chain(boost::asio::buffer(pems.certificate), error);
  if (!error) {
    context->use_private_key(boost::asio::buffer(pems.key), ssl::context::pem, error);
  }
  if (!error && !pems.authorities.empty()) {
    context->add_certificate_authority(boost::asio::buffer(pems.authorities), error);
    SSL_CTX_set_verify(native, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    // Needed to take sessions up again where clients show certificates.
    static constexpr unsigned char kSessions[] = "tandem-http";
    SSL_CTX_set_session_id_context(native, kSessions, sizeof(kSessions) - 1);
  }
  if (!error) return context;
  return absl::InvalidArgumentError(Cat("the certificate cannot be used: ", error.message()));
}

}  // namespace

std::shared_ptr<ssl::context> TlsContexts::Newest() {
  if (certificates_ == nullptr) return nullptr;
  std::shared_ptr<const TlsPems> pems = certificates_->current();
  if (pems == made_of_) return context_;
  absl::StatusOr<std::shared_ptr<ssl::context>> context = MakeContext(*pems);
  made_of_ = std::move(pems);
  if (context.ok()) {
    context_ = *std::move(context);
  } else {
    spdlog::error("HTTP keeps the certificate before: {}", std::string(context.status().message()));
  }
  return context_;
}

}  // namespace tandem
