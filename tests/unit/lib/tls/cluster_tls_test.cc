#include "lib/tls/cluster_tls.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/tls/grpc_credentials.h"
#include "tests/unit/lib/tls/test_certificates.h"

namespace tandem {
namespace {

// One authority for all tests: a process shows one certificate as long as it lives.
TestAuthority& Authority() {
  static TestAuthority authority("the cluster");
  return authority;
}

void UseTlsOnce() {
  if (HasClusterTls()) return;
  const TlsFiles files = Authority().Issue("worker");
  ASSERT_TRUE(UseClusterTls({.cluster_cert = files.certificate,
                             .cluster_key = files.key,
                             .cluster_ca = Authority().file()})
                  .ok());
}

class TestServer {
 public:
  explicit TestServer(const std::string& listen) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    auto port = ClusterPort::Open("--listen", listen, &builder);
    EXPECT_TRUE(port.ok()) << port.status();
    port_ = *std::move(port);
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    TANDEM_CHECK(server_ != nullptr);
    port_->Serve();
  }
  ~TestServer() {
    port_->Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  std::string address() const { return port_->address().ToString(); }

 private:
  // Somebody must take calls: health alone does not make a server start.
  grpc::CallbackGenericService service_;
  std::unique_ptr<ClusterPort> port_;
  std::unique_ptr<grpc::Server> server_;
};

bool Reaches(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& with,
             int seconds = 30) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(address, with, arguments);
  return channel->WaitForConnected(std::chrono::system_clock::now() +
                                   std::chrono::seconds(seconds));
}

// What one connection attempt comes to: a handshake that fails is known at once.
bool IsRefused(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& with) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(address, with, arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::CompletionQueue queue;
  grpc::ByteBuffer request;
  grpc::ByteBuffer response;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  EXPECT_TRUE(queue.Next(&tag, &ok));
  EXPECT_NE(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // The server itself answers something else, as the request is empty.
  return status.error_code() == grpc::StatusCode::UNAVAILABLE;
}

std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(TestAuthority& shown,
                                                        TestAuthority& believed,
                                                        const std::string& name) {
  TlsFiles files = shown.Issue(name);
  files.authorities = believed.file();
  // For the whole test program: channels may outlive the test.
  auto* certificates = Certificates::Open(files)->release();
  return (*GrpcCredentials::Create(*certificates)).release()->Channel();
}

TEST(ClusterTls, BothSidesMustShowACertificateOfTheCluster) {
  UseTlsOnce();
  const TestServer server("127.0.0.1:0");
  EXPECT_TRUE(Reaches(server.address(), ClusterChannelCredentials(server.address())));
  TestAuthority stranger("somebody else");
  EXPECT_TRUE(IsRefused(server.address(), grpc::InsecureChannelCredentials()));
  // Believes the server, but shows nothing.
  grpc::SslCredentialsOptions silent;
  silent.pem_root_certs = Authority().pem();
  EXPECT_TRUE(IsRefused(server.address(), grpc::SslCredentials(silent)));
  EXPECT_TRUE(IsRefused(server.address(), CredentialsOf(stranger, Authority(), "stranger")));
  // A server of somebody else is not believed.
  EXPECT_TRUE(IsRefused(server.address(), CredentialsOf(Authority(), stranger, "deceived")));
  EXPECT_FALSE(IsRefused(server.address(), CredentialsOf(Authority(), Authority(), "other")));
}

TEST(ClusterTls, TheServersNameIsChecked) {
  UseTlsOnce();
  // The certificate is for 127.0.0.1, this is another address of the machine.
  const TestServer server("127.0.0.2:0");
  EXPECT_TRUE(IsRefused(server.address(), ClusterChannelCredentials(server.address())));
}

TEST(ClusterTls, WithACertificateAnyAddressMayBeListenedOn) {
  UseTlsOnce();
  grpc::ServerBuilder builder;
  EXPECT_TRUE(ClusterPort::Open("--listen", "0.0.0.0:0", &builder).ok());
}

TEST(ClusterTls, ACertificateWithoutAnAuthorityIsRefused) {
  const TlsFiles files = Authority().Issue("alone");
  const absl::Status status = UseClusterTls(
      {.cluster_cert = files.certificate, .cluster_key = files.key, .cluster_ca = ""});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

class UnixPort : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/tandem-port-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(UnixPort, ServesItsOwnUserWithoutCertificates) {
  const TestServer server("unix:" + folder_ + "/port");
  EXPECT_TRUE(Reaches(server.address(), ClusterChannelCredentials(server.address())));
}

// Another user is hung up on, even where the file system would let them in.
TEST_F(UnixPort, HangsUpOnOtherUsers) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root to be another user";
  const std::string path = folder_ + "/port";
  const TestServer server("unix:" + path);
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // Only calls that are safe after fork.
    if (::setuid(65534) != 0) ::_exit(3);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      ::_exit(4);
    // A server that took the connection would send its settings.
    char byte = 0;
    ::_exit(::read(fd, &byte, 1) == 0 ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace tandem
