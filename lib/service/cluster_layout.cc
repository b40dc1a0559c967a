#include "lib/service/cluster_layout.h"

#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

absl::Status AddWorkers(WorkerRole role, const std::string& devices,
                        std::vector<WorkerSpec>* workers) {
  if (devices == "none") return absl::OkStatus();
  int number = 0;
  for (const std::string& device : std::vector<std::string>(absl::StrSplit(devices, ','))) {
    if (device.empty() || device == "none") {
      return absl::InvalidArgumentError(Cat(
          "--", NameOf(role), ": expected device names with commas between them, or 'none' alone, ",
          "found '", devices, "'"));
    }
    if (role == WorkerRole::kNpu && device != "cpu" && device != "xrt") {
      return absl::InvalidArgumentError(
          Cat("--npu: expected one of cpu, xrt, none, found '", device, "'"));
    }
    workers->push_back({Cat(NameOf(role), number++), role, device});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<WorkerSpec>> WorkersOf(const DeviceSettings& devices) {
  std::vector<WorkerSpec> workers;
  TANDEM_RETURN_IF_ERROR(AddWorkers(WorkerRole::kNpu, devices.npu, &workers));
  TANDEM_RETURN_IF_ERROR(AddWorkers(WorkerRole::kGpu, devices.gpu, &workers));
  if (workers.empty()) {
    return absl::InvalidArgumentError(
        "--npu and --gpu: expected at least one device, found 'none' for both");
  }
  return workers;
}

std::string RunFolder::Socket(std::string_view process) const {
  return Cat(path, "/", process, ".sock");
}

std::string RunFolder::Address(std::string_view process) const {
  return Cat("unix:", Socket(process));
}

std::string RunFolder::RegionSocket() const { return Socket("regions"); }

std::string RunFolder::DescriptorSocket(std::string_view worker) const {
  return Socket(Cat(worker, ".fd"));
}

}  // namespace tandem
