#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"
#include "lib/weights/region.h"

namespace tandem {

// The regions a worker has mapped and imported, kept from one Prepare to the next while the model
// stays the same. One thread.
class WeightsStore {
 public:
  // Gives the descriptor of a region; production code asks the loader's socket.
  using Fetch = std::function<absl::StatusOr<UniqueFd>(const std::string& region)>;

  // Makes exactly the regions `names` available: those of another fingerprint and those no longer
  // named are dropped first, so that their memory is free again; the missing ones are fetched,
  // mapped and imported. NOT_FOUND when `manifests` lacks one.
  absl::Status Load(Device& device, const ModelConfig& config, const std::string& fingerprint,
                    const std::vector<std::string>& names,
                    const std::vector<RegionManifest>& manifests, const Fetch& fetch);

  // All that Load was asked for, by name.
  std::vector<std::shared_ptr<const Weights>> all() const;
  void Clear() { weights_.clear(); }

 private:
  std::string fingerprint_;
  std::map<std::string, std::shared_ptr<const Weights>> weights_;
};

}  // namespace tandem
