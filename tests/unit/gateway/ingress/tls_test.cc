// TLS at both public ports, with a fake engine behind them.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>

#include "lib/tls/certificates.h"
#include "lib/tls/grpc_credentials.h"
#include "tests/unit/gateway/ingress/grpc_fixture.h"
#include "tests/unit/gateway/ingress/ingress_fixture.h"
#include "tests/unit/lib/tls/test_certificates.h"

namespace tandem {
namespace {

// What a TLS client believes, and what it shows.
struct Belief {
  std::string authority;  // file
  std::string name = "127.0.0.1";
  TlsFiles shown = {};
  int max_version = TLS1_3_VERSION;
};

int ConnectTo(const std::string& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&where), sizeof(where)), 0);
  const timeval minute{.tv_sec = 60, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute));
  return fd;
}

// One TLS connection of a client.
class TlsClient {
 public:
  TlsClient(const std::string& address, const Belief& belief)
      : fd_(ConnectTo(address)),
        context_(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free),
        ssl_(nullptr, &SSL_free) {
    SSL_CTX_load_verify_file(context_.get(), belief.authority.c_str());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_max_proto_version(context_.get(), belief.max_version);
    if (belief.shown.set()) {
      SSL_CTX_use_certificate_chain_file(context_.get(), belief.shown.certificate.c_str());
      SSL_CTX_use_PrivateKey_file(context_.get(), belief.shown.key.c_str(), SSL_FILETYPE_PEM);
    }
    ssl_.reset(SSL_new(context_.get()));
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), belief.name.c_str());
    static constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";
    SSL_set_alpn_protos(ssl_.get(), kProtocols, sizeof(kProtocols) - 1);
    SSL_set_fd(ssl_.get(), fd_.get());
    connected_ = SSL_connect(ssl_.get()) == 1;
  }

  bool connected() const { return connected_; }
  long verdict() const { return SSL_get_verify_result(ssl_.get()); }
  std::string protocol() const {
    const unsigned char* data = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl_.get(), &data, &length);
    return std::string(reinterpret_cast<const char*>(data), length);
  }
  void Send(const std::string& text) {
    SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size()));
  }
  // All that comes; `clean_end`: the server said that this is all.
  std::string ReadToEnd() {
    std::string text;
    char buffer[4096];
    int got = 0;
    while ((got = SSL_read(ssl_.get(), buffer, sizeof(buffer))) > 0)
      text.append(buffer, static_cast<std::size_t>(got));
    clean_end = SSL_get_error(ssl_.get(), got) == SSL_ERROR_ZERO_RETURN;
    return text;
  }
  std::string Get(const std::string& path) {
    Send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return ReadToEnd();
  }
  void HangUp() { ::shutdown(fd_.get(), SHUT_RDWR); }
  bool clean_end = false;

 private:
  UniqueFd fd_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
  bool connected_ = false;
};

class HttpsTest : public IngressFixture {
 protected:
  void StartTls(TlsFiles files) {
    auto opened = Certificates::Open(files, absl::Milliseconds(5));
    ASSERT_TRUE(opened.ok()) << opened.status();
    certificates_ = *std::move(opened);
    options_.tls = certificates_.get();
    Start();
  }
  void TearDown() override { server_.reset(); }
  TlsClient Client(Belief belief) {
    if (belief.authority.empty()) belief.authority = authority_.file();
    return TlsClient(server_->address(), belief);
  }
  TestAuthority authority_;
  std::unique_ptr<Certificates> certificates_;
};

TEST_F(HttpsTest, AnswersWithinTlsAndSaysWhereItEnds) {
  StartTls(authority_.Issue("server"));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClient client = Client({.authority = "", .max_version = version});
    ASSERT_TRUE(client.connected());
    EXPECT_EQ(client.protocol(), "http/1.1");
    EXPECT_NE(client.Get("/healthz").find("\r\n\r\nok\n"), std::string::npos);
    EXPECT_TRUE(client.clean_end);
  }
}

TEST_F(HttpsTest, StreamsAndSeesThatTheClientLeaves) {
  StartTls(authority_.Issue("server"));
  TlsClient client = Client({});
  const std::string body = CompletionBody(R"("stream":true)");
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
      "Content-Type: application/json\r\nConnection: close\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  engine_.WaitForRequest(1);
  engine_.Tokens(1, {Id("!")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_NE(client.ReadToEnd().find("data: [DONE]"), std::string::npos);
  TlsClient leaver = Client({});
  leaver.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
      "Content-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  engine_.WaitForRequest(2);
  leaver.HangUp();
  engine_.WaitForCancel(2);
}

TEST_F(HttpsTest, OldTlsAndPlainHttpAreRefused) {
  StartTls(authority_.Issue("server"));
  EXPECT_FALSE(Client({.authority = "", .max_version = TLS1_1_VERSION}).connected());
  HttpTestClient plain = Connect();
  plain.SendRequest("GET", "/healthz");
  EXPECT_TRUE(plain.ReadToEnd());
}

TEST_F(HttpsTest, ClientsSeeAWrongAuthorityNameAndTime) {
  StartTls(authority_.Issue("server"));
  TestAuthority other("another");
  TlsClient mistrusts = Client({.authority = other.file()});
  EXPECT_FALSE(mistrusts.connected());
  TlsClient misnamed = Client({.authority = "", .name = "192.0.2.1"});
  EXPECT_FALSE(misnamed.connected());
  EXPECT_EQ(misnamed.verdict(), X509_V_ERR_IP_ADDRESS_MISMATCH);
}

TEST_F(HttpsTest, ARenewedCertificateIsShownToNewConnections) {
  const TlsFiles files = authority_.Issue("server");
  StartTls(files);
  TlsClient before = Client({});
  ASSERT_TRUE(before.connected());
  const std::shared_ptr<const TlsPems> first = certificates_->current();
  authority_.Issue("server", {.names = "IP:192.0.2.1"});
  // The watch says so to the log only: looked at until it has.
  while (certificates_->current() == first) std::this_thread::yield();
  EXPECT_TRUE(Client({.authority = "", .name = "192.0.2.1"}).connected());
  EXPECT_FALSE(Client({}).connected());
  // What was there goes on.
  EXPECT_NE(before.Get("/healthz").find("ok\n"), std::string::npos);
}

TEST_F(HttpsTest, ClientsCanBeAskedForACertificate) {
  TlsFiles files = authority_.Issue("server");
  files.authorities = authority_.file();
  StartTls(files);
  TlsClient good = Client({.authority = "", .shown = authority_.Issue("client")});
  EXPECT_NE(good.Get("/healthz").find("ok\n"), std::string::npos);
  TestAuthority other("another");
  // In TLS 1.3 a client learns it with the first answer.
  EXPECT_EQ(Client({}).Get("/healthz"), "");
  EXPECT_EQ(Client({.authority = "", .shown = other.Issue("stranger")}).Get("/healthz"), "");
  EXPECT_EQ(Client({.authority = "",
                    .shown = authority_.Issue("old", {.begin_seconds = -9, .end_seconds = -3})})
                .Get("/healthz"),
            "");
}

TEST_F(HttpsTest, AHandshakeThatNeverEndsIsCutOff) {
  options_.handshake_timeout = absl::Milliseconds(50);
  StartTls(authority_.Issue("server"));
  HttpTestClient silent = Connect();
  EXPECT_TRUE(silent.ReadToEnd());
  HttpTestClient slow = Connect();
  slow.Send("\x16\x03\x01");
  EXPECT_TRUE(slow.ReadToEnd());
  EXPECT_TRUE(Client({}).connected());
}

class GrpcTlsTest : public GrpcTest {
 protected:
  void SetUp() override {
    TlsFiles files = authority_.Issue("server");
    if (asks_clients_) files.authorities = authority_.file();
    auto opened = Certificates::Open(files, absl::Milliseconds(5));
    ASSERT_TRUE(opened.ok()) << opened.status();
    certificates_ = *std::move(opened);
    auto credentials = GrpcCredentials::Create(*certificates_);
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    credentials_ = *std::move(credentials);
    options_.tls = credentials_.get();
    Start();
  }
  void TearDown() override {
    server_.reset();
    certificates_.reset();
  }
  grpc::StatusCode Ask(const std::shared_ptr<grpc::ChannelCredentials>& with) {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub =
        v1::Inference::NewStub(grpc::CreateCustomChannel(server_->address(), with, own));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    v1::ServedModel model;
    return stub->GetModel(&context, {}, &model).error_code();
  }
  static std::shared_ptr<grpc::ChannelCredentials> Believing(const std::string& pem) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = pem;
    return grpc::SslCredentials(options);
  }
  TestAuthority authority_;
  bool asks_clients_ = false;
  std::unique_ptr<GrpcCredentials> credentials_;
  std::unique_ptr<Certificates> certificates_;
};

class GrpcMutualTlsTest : public GrpcTlsTest {
 protected:
  GrpcMutualTlsTest() { asks_clients_ = true; }
  std::shared_ptr<grpc::ChannelCredentials> Showing(const TlsFiles& files) const {
    const auto read = [](const std::string& path) {
      std::ifstream in(path);
      return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    };
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority_.pem();
    options.pem_cert_chain = read(files.certificate);
    options.pem_private_key = read(files.key);
    return grpc::SslCredentials(options);
  }
};

TEST_F(GrpcMutualTlsTest, ClientsMustShowACertificate) {
  EXPECT_EQ(Ask(Showing(authority_.Issue("client"))), grpc::StatusCode::OK);
  EXPECT_EQ(Ask(Believing(authority_.pem())), grpc::StatusCode::UNAVAILABLE);
  TestAuthority other("another");
  EXPECT_EQ(Ask(Showing(other.Issue("stranger"))), grpc::StatusCode::UNAVAILABLE);
  const TlsFiles old = authority_.Issue("old", {.begin_seconds = -9, .end_seconds = -3});
  EXPECT_EQ(Ask(Showing(old)), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTlsTest, AnswersThoseWhoBelieveItAndNobodyInPlain) {
  EXPECT_EQ(Ask(Believing(authority_.pem())), grpc::StatusCode::OK);
  EXPECT_EQ(Ask(grpc::InsecureChannelCredentials()), grpc::StatusCode::UNAVAILABLE);
  TestAuthority other("another");
  EXPECT_EQ(Ask(Believing(other.pem())), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTlsTest, ARenewedCertificateIsShownToNewConnections) {
  ASSERT_EQ(Ask(Believing(authority_.pem())), grpc::StatusCode::OK);
  // Now for another address: who checks it is refused as soon as it is shown.
  authority_.Issue("server", {.names = "IP:192.0.2.1"});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (Ask(Believing(authority_.pem())) == grpc::StatusCode::OK) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  }
  authority_.Issue("server");
  while (Ask(Believing(authority_.pem())) != grpc::StatusCode::OK) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  }
}

}  // namespace
}  // namespace tandem
