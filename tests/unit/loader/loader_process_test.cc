// The program itself: its exit codes, its one error line, its files and signals.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/fd.h"
#include "lib/weights/region_socket.h"
#include "tandem/v1/loader.grpc.pb.h"
#include "tests/unit/loader/test_files.h"

extern char** environ;

namespace tandem {
namespace {

using ::testing::HasSubstr;

// A started tandem-loader, its standard error in a file.
class Loader {
 public:
  Loader(const TempFolder& folder, std::vector<std::string> arguments)
      : errors_(folder / "stderr") {
    arguments.insert(arguments.begin(), TANDEM_LOADER_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, errors_.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawn_file_actions_addopen(&actions, 1, (folder / "stdout").c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    EXPECT_EQ(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Loader() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      Wait();
    }
  }
  void Signal(int signal) const { ::kill(pid_, signal); }
  // The exit code, or minus the signal.
  int Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string errors() const { return ReadFile(errors_); }

 private:
  std::string errors_;
  pid_t pid_ = -1;
};

// Waits until `name` appears in the folder (renamed or written there).
std::string WaitForFile(const TempFolder& folder, const std::string& name) {
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  EXPECT_GE(::inotify_add_watch(watch.get(), folder.path().c_str(), IN_MOVED_TO), 0);
  while (::access((folder / name).c_str(), F_OK) != 0) {
    pollfd entry{watch.get(), POLLIN, 0};
    if (::poll(&entry, 1, 60'000) != 1) return "";
    char events[4096];
    EXPECT_GT(::read(watch.get(), events, sizeof(events)), 0);
  }
  std::string text = ReadFile(folder / name);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string Tiny() { return absl::StrCat(kGoldenData, "/tiny"); }

TEST(LoaderProcess, ServesUntilItIsTold) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const TempFolder folder;
    Loader loader(
        folder, {"--model=" + Tiny(), "--quant=int4", "--listen=127.0.0.1:0",
                 "--region_socket=" + (folder / "regions"), "--ready_file=" + (folder / "ready")});
    const std::string address = WaitForFile(folder, "ready");
    ASSERT_THAT(address, ::testing::StartsWith("127.0.0.1:"));
    const auto stub =
        v1::Loader::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext watch_context, model_context;
    const auto reader = stub->Watch(&watch_context, v1::WatchRequest());
    v1::LoadProgress progress;
    while (reader->Read(&progress)) {
    }
    EXPECT_EQ(progress.state(), v1::LoadProgress::READY);
    v1::Model model;
    ASSERT_TRUE(stub->GetModel(&model_context, {}, &model).ok());
    EXPECT_EQ(model.weight_format(), "int4");
    RegionManifest wanted;
    wanted.name = "layer.7.attention";
    EXPECT_TRUE(FetchRegion(folder / "regions", wanted, absl::Seconds(10)).ok());
    loader.Signal(signal);
    EXPECT_EQ(loader.Wait(), 0);
    EXPECT_NE(::access((folder / "regions").c_str(), F_OK), 0);
    EXPECT_NE(::access((folder / "ready").c_str(), F_OK), 0);
  }
}

// The last line of standard error is the error; nothing else begins like it.
void ExpectFailure(const std::vector<std::string>& arguments, const std::string& expected) {
  const TempFolder folder;
  Loader loader(folder, arguments);
  EXPECT_EQ(loader.Wait(), 1);
  const std::string errors = loader.errors();
  const std::string prefix = "tandem-loader: error: ";
  const std::size_t at = errors.find(prefix);
  ASSERT_NE(at, std::string::npos) << errors;
  const std::string line = errors.substr(at);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << errors;
  EXPECT_THAT(line, HasSubstr(expected));
}

TEST(LoaderProcess, BadStartsAreOneLineAndCodeOne) {
  ExpectFailure({}, "--model: expected a file or folder, found nothing");
  ExpectFailure({"--model=nowhere", "--check"},
                "nowhere: expected a model file or folder, found nothing there");
  ExpectFailure({"--model=" + Tiny(), "--quant=int2"},
                "--quant: expected one of bf16, int8, int4, as-is, found 'int2'");
  ExpectFailure({"--model=" + Tiny()}, "--listen: expected an address");
  ExpectFailure({"--model=" + Tiny(), "--listen=127.0.0.1:0"}, "--region_socket: expected a path");
  ExpectFailure({"--model=" + Tiny(), "--listen=0.0.0.0:0", "--region_socket=x"},
                "found '0.0.0.0:0'");
  ExpectFailure({"--model=" + Tiny(), "--threads=-1"},
                "--threads: expected a whole number from 0 to 1024, found '-1'");
}

TEST(LoaderProcess, ErrorWhileLoadingEndsIt) {
  const TempFolder model;
  CopyFiles(Tiny(), model.path(), {"config.json", "tokenizer.model", "model.safetensors"});
  std::string file = ReadFile(model / "model.safetensors");
  file[file.size() - 2] = '\x80';  // the last value of the last tensor: infinite
  file[file.size() - 1] = '\x7f';
  WriteFile(model / "model.safetensors", file);
  const TempFolder sockets;
  ExpectFailure({"--model=" + model.path(), "--listen=127.0.0.1:0",
                 "--region_socket=" + (sockets / "regions")},
                model / "model.safetensors" + ": tensor 'model.");
  EXPECT_NE(::access((sockets / "regions").c_str(), F_OK), 0);
  ExpectFailure({"--model=" + model.path(), "--check"}, "expected finite values");
}

TEST(LoaderProcess, CheckPrintsASummary) {
  const TempFolder folder;
  Loader loader(folder, {"--model=" + Tiny(), "--check", "--quant=int8"});
  EXPECT_EQ(loader.Wait(), 0);
  EXPECT_THAT(ReadFile(folder / "stdout"), HasSubstr("tiny: good"));
  EXPECT_THAT(ReadFile(folder / "stdout"), HasSubstr("106 tensors"));
}

}  // namespace
}  // namespace tandem
