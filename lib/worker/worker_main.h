#pragma once

#include <memory>
#include <string>

#include "lib/device/device.h"
#include "lib/worker/worker_flags.h"

namespace tandem {

// Exit codes of the worker programs.
// flags, a device that is not there, an address that is taken
inline constexpr int kExitBadStart = 2;
// the device failed while serving: nothing may be served from it again
inline constexpr int kExitDeviceLost = 3;

// Before the device is created: log, file mode mask (sockets are private), SIGINT and SIGTERM
// blocked in all threads to come.
void PrepareWorkerProcess(const std::string& role, const std::string& log_level);
// Logs one line and returns kExitBadStart.
int FailStart(const absl::Status& status);

// Serves until SIGINT or SIGTERM; returns the exit code. gRPC: tandem.v1.Worker, health,
// reflection.
int RunWorker(const WorkerFlags& options, std::unique_ptr<Device> device);

}  // namespace tandem
