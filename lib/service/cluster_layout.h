#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/kinds.h"
#include "lib/service/cluster_settings.h"

namespace tandem {

// Which workers a cluster has, and where its processes find each other on one host: what `tandem
// up`, and every process that is given a --run_folder, makes of the same settings.

struct WorkerSpec {
  std::string name;  // "gpu0"
  WorkerRole role = WorkerRole::kGpu;
  std::string device;  // gpu: auto or what names a device; npu: cpu or xrt
  bool operator==(const WorkerSpec&) const = default;
};

// The workers that --npu and --gpu ask for, npu's first. INVALID_ARGUMENT names the flag; also when
// there would be none.
absl::StatusOr<std::vector<WorkerSpec>> WorkersOf(const DeviceSettings& devices);

// The sockets in the folder where a cluster's processes meet.
struct RunFolder {
  std::string path;
  std::string Socket(std::string_view process) const;
  // "unix:PATH", of gRPC.
  std::string Address(std::string_view process) const;
  // Where the loader and workers give descriptors.
  std::string RegionSocket() const;
  std::string DescriptorSocket(std::string_view worker) const;
};

}  // namespace tandem
