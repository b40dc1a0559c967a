#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"

namespace tandem {

// One child process. It dies with us (PR_SET_PDEATHSIG), stands in a process group of its own so
// that Ctrl-C reaches only us, and writes standard output and error to a log file.
struct ChildProcess {
  pid_t pid = -1;
  UniqueFd pidfd;  // readable once it has ended
};

// NOT_FOUND when the program is not there or not executable.
absl::StatusOr<ChildProcess> Spawn(const std::vector<std::string>& command,
                                   const std::string& log_file);

// Text of the wait status: "exit code 3", "signal 9 (Killed)".
std::string DescribeExit(int wait_status);

// What the log says of the end of a program of ours: the message of the last "PROGRAM: error:
// MESSAGE", else the last line with "error", else the last one; empty when there is none.
std::string LastErrorLine(const std::string& log_file);

// Moves an old log aside (NAME.log -> NAME.log.1), so that each start begins a new one.
void RotateLog(const std::string& log_file);

}  // namespace tandem
