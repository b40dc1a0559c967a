// The npu-worker as a program: its exit codes, its ready file, health and reflection.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "lib/base/fd.h"
#include "tandem/v1/worker.grpc.pb.h"

extern char** environ;

namespace tandem {
namespace {

using testing::HasSubstr;

std::string Program() {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  return (self.parent_path().parent_path() / "bin" / "tandem-npu-worker").string();
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class NpuWorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-npu-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }
  std::string In(const std::string& name) const { return absl::StrCat(folder_, "/", name); }

  void Start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Program());
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, In("out").c_str(), O_CREAT | O_WRONLY, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, In("err").c_str(), O_CREAT | O_WRONLY, 0600);
    ASSERT_EQ(::posix_spawn(&pid_, Program().c_str(), &actions, nullptr, pointers.data(), environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
  }
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // Starts it and expects it to end by itself; returns what it said on standard error.
  std::string Refused(std::vector<std::string> arguments) {
    Start(std::move(arguments));
    EXPECT_EQ(Wait(), 1);
    const std::string said = ReadFile(In("err"));
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    return said;
  }
  // Starts a worker that serves, and waits for its ready file; returns the address.
  std::string Serve(std::vector<std::string> arguments) {
    const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
    EXPECT_GE(::inotify_add_watch(watch.get(), folder_.c_str(), IN_MOVED_TO), 0);
    arguments.insert(arguments.end(),
                     {"--device=cpu", "--threads=2", absl::StrCat("--ready_file=", In("ready"))});
    Start(std::move(arguments));
    pollfd entry{watch.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&entry, 1, 60'000), 1) << ReadFile(In("err"));
    std::string address = ReadFile(In("ready"));
    EXPECT_FALSE(address.empty());
    if (!address.empty() && address.back() == '\n') address.pop_back();
    return address;
  }

  std::string folder_;
  pid_t pid_ = -1;
};

TEST_F(NpuWorkerTest, XrtIsNotInThisBuildAndIsNotReplaced) {
  const std::string said = Refused({"--device=xrt", "--listen=127.0.0.1:0"});
  EXPECT_THAT(said, HasSubstr("--device=xrt"));
  EXPECT_THAT(said, HasSubstr("2.19"));
  EXPECT_THAT(said, HasSubstr("found"));
}

TEST_F(NpuWorkerTest, ADeviceMustBeNamed) {
  EXPECT_THAT(Refused({"--listen=127.0.0.1:0"}), HasSubstr("--device"));
}
TEST_F(NpuWorkerTest, UnknownDevices) {
  EXPECT_THAT(Refused({"--device=gpu", "--listen=127.0.0.1:0"}), HasSubstr("'gpu'"));
}
TEST_F(NpuWorkerTest, LoopbackOnly) {
  EXPECT_THAT(Refused({"--device=cpu", "--listen=0.0.0.0:0"}), HasSubstr("0.0.0.0:0"));
}
TEST_F(NpuWorkerTest, AbsurdThreads) {
  EXPECT_THAT(Refused({"--device=cpu", "--listen=127.0.0.1:0", "--threads=99999"}),
              HasSubstr("threads"));
}

TEST_F(NpuWorkerTest, ListsItsDevices) {
  Start({"--list_devices"});
  EXPECT_EQ(Wait(), 0);
  EXPECT_THAT(ReadFile(In("out")), HasSubstr("cpu"));
}

TEST_F(NpuWorkerTest, ASelftestWithoutXrtSaysWhy) {
  Start({"--selftest"});
  EXPECT_EQ(Wait(), 1);
  EXPECT_THAT(ReadFile(In("out")), HasSubstr("ended by: UNIMPLEMENTED: --device=xrt"));
}

TEST_F(NpuWorkerTest, ServesOnAUnixSocketAndStopsOnSigterm) {
  const std::string address = Serve({absl::StrCat("--listen=unix:", In("socket")), "--name=npu3",
                                     absl::StrCat("--fd_socket=", In("fd"))});
  EXPECT_EQ(address, absl::StrCat("unix:", In("socket")));
  struct stat info;
  ASSERT_EQ(::stat(In("socket").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0077, 0u);
  const auto stub =
      v1::Worker::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  v1::WorkerDescription description;
  const grpc::Status status = stub->Describe(&context, {}, &description);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(description.name(), "npu3");
  EXPECT_EQ(description.role(), "npu");
  EXPECT_EQ(description.pid(), pid_);
  EXPECT_EQ(description.device().kind(), "cpu");
  EXPECT_EQ(description.fd_socket(), In("fd"));
  ::kill(pid_, SIGTERM);
  EXPECT_EQ(Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(In("fd")));
  EXPECT_FALSE(std::filesystem::exists(In("ready")));
}

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices)
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

// One request and one answer on any method, its messages as bytes.
std::string Exchange(const std::string& address, const std::string& method,
                     const std::string& request) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  const auto next = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  grpc::ByteBuffer answer;
  call->StartCall(nullptr);
  EXPECT_TRUE(next());
  call->WriteLast(Bytes(request), grpc::WriteOptions(), nullptr);
  EXPECT_TRUE(next());
  call->Read(&answer, nullptr);
  EXPECT_TRUE(next());
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(next());
  EXPECT_TRUE(status.ok()) << status.error_message();
  return Text(answer);
}

TEST_F(NpuWorkerTest, HealthAndReflectionOnAFreePort) {
  const std::string address = Serve({"--listen=127.0.0.1:0"});
  EXPECT_THAT(address, testing::MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  // HealthCheckRequest{service = ...}; the answer is HealthCheckResponse{status = SERVING}.
  const std::string name = "tandem.v1.Worker";
  const std::string request = std::string("\x0a") + static_cast<char>(name.size()) + name;
  EXPECT_EQ(Exchange(address, "/grpc.health.v1.Health/Check", request), std::string("\x08\x01"));
  EXPECT_EQ(Exchange(address, "/grpc.health.v1.Health/Check", ""), std::string("\x08\x01"));
  // ServerReflectionRequest{list_services = ""}.
  const std::string services =
      Exchange(address, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
               std::string("\x3a\x00", 2));
  EXPECT_THAT(services, HasSubstr("tandem.v1.Worker"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(NpuWorkerTest, AnAddressThatIsTakenIsAnError) {
  const std::string address = Serve({"--listen=127.0.0.1:0"});
  const pid_t first = std::exchange(pid_, -1);
  Start({"--device=cpu", absl::StrCat("--listen=", address)});
  EXPECT_EQ(Wait(), 1);
  EXPECT_THAT(ReadFile(In("err")), HasSubstr(address));
  pid_ = first;
}

}  // namespace
}  // namespace tandem
