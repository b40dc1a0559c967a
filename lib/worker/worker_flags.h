#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// The command line of a worker program: --flag=value or --flag value.
struct WorkerFlags {
  std::string role;    // "gpu" or "npu": set by the program
  std::string name;    // --name; default: the role and 0
  std::string device;  // --device, required (unless --list_devices)
  // --weights: zero-copy or upload; how a device with unified memory takes weights
  std::string weights = "zero-copy";
  int threads = 0;  // --threads: of the CPU device; 0: one for each CPU
  // --listen, required: unix:/path, or a loopback host:port (port 0: any free one)
  std::string listen;
  std::string fd_socket;   // --fd_socket: Unix socket path for edge handshakes
  std::string ready_file;  // --ready_file: the address is written there once the worker serves
  std::string log_level = "info";  // --log_level
  bool list_devices = false;       // --list_devices
  bool help = false;               // --help
};

// INVALID_ARGUMENT with one line for an unknown flag, a missing one or a bad value.
absl::StatusOr<WorkerFlags> ParseWorkerFlags(const std::string& role,
                                             const std::vector<std::string>& arguments);

// Text for --help; `devices` describes the values of --device.
std::string WorkerUsage(const std::string& program, const std::string& devices);

// Unix sockets and loopback addresses only: the workers' protocol has no authentication.
absl::Status CheckWorkerAddress(const std::string& address);

}  // namespace tandem
