#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/fd.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/flags.h"

namespace tandem {

// The shell that every program of Tandem stands in: how it reads its flags, logs, is stopped, says
// that it serves and how it ends.

// Exit codes. A bad start: flags, a device or file that is not there, an address that is taken.
inline constexpr int kExitBadStart = 1;
// The device failed while serving: nothing may be served from it again.
inline constexpr int kExitDeviceLost = 3;

struct ProgramInfo {
  std::string name;     // "tandem-loader"
  std::string summary;  // one line for --help
};

// Reads the configuration file, the environment and the command line into `flags` (command_line.h)
// and calls `run` when there is something to run. Gives the exit code: that of `run`; 0 after
// --help, --man and --version; kExitBadStart with one line on standard error after a bad command
// line.
int RunProgram(const ProgramInfo& program, int argc, char** argv, const FlagList& flags,
               const std::function<int()>& run);

// Prints "NAME: error: MESSAGE" and gives kExitBadStart. The line begins nothing else.
int FailStart(std::string_view program, const absl::Status& status);

// Log, file mode mask (sockets are private), SIGPIPE ignored. Before any thread starts.
void PrepareProcess(const std::string& log_name, const LogSettings& log);

// SIGINT, SIGTERM and SIGHUP as something to wait for. They are blocked in the calling thread and
// all that it starts afterwards: create it before any thread. One at a time in a process.
class StopSignals {
 public:
  static absl::StatusOr<StopSignals> Catch();

  int fd() const { return fd_.get(); }  // readable once a signal has come
  bool pending() const;                 // never waits
  // Waits for a signal and gives its number. It stays pending.
  int Wait() const;

 private:
  explicit StopSignals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// A file that tells others that this process serves, and where. It appears whole or not at all, and
// is removed with the object.
class ReadyFile {
 public:
  // An empty path gives an object without a file. A service manager that waits for the process
  // (systemd's Type=notify) is told, too.
  static absl::StatusOr<ReadyFile> Write(const std::string& path, const std::string& text);
  ReadyFile(ReadyFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ReadyFile& operator=(ReadyFile&&) = delete;
  ~ReadyFile();

 private:
  explicit ReadyFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace tandem
