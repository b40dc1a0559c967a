#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lib/device/device.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/flags.h"

namespace tandem {

// What the two worker programs do alike: their flags and everything around the device.
struct WorkerProgram {
  std::string name;  // "tandem-gpu-worker"
  WorkerRole role = WorkerRole::kGpu;
  std::string summary;
  std::string devices;                   // what --device takes, for --help
  std::function<int()> list_devices;     // prints what --list_devices shows; gives the exit code
  std::function<void(FlagList*)> flags;  // the program's own; may be empty
  // Runs instead of the worker where a flag of the program's own asked for it, and gives the exit
  // code; may be empty.
  std::function<std::optional<int>()> instead;
  // The device that --device names; called before any thread has started.
  std::function<absl::StatusOr<std::unique_ptr<Device>>(const std::string& device)> create;
};

// Reads the flags, creates the device and serves until SIGINT or SIGTERM; gives the exit code.
// gRPC: tandem.v1.Worker, health, reflection. The port has no keys: Unix sockets and loopback only.
int WorkerMain(const WorkerProgram& program, int argc, char** argv);

}  // namespace tandem
