#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"
#include "lib/weights/region.h"
#include "lib/weights/region_socket.h"

namespace tandem {

// The regions a worker has mapped and imported, kept from one Prepare to the next while the model
// stays the same. One thread; Held from any.
class WeightsStore {
 public:
  // Gives the descriptors of a region; production code asks the loader's socket.
  using Fetch = std::function<absl::StatusOr<RegionDescriptors>(const RegionManifest& manifest)>;

  // Makes exactly the regions `names` available: those of another fingerprint, those that are
  // another file by now and those no longer named are dropped first, so that their memory is free
  // again; the missing ones are fetched, mapped and imported. NOT_FOUND when `manifests` lacks one.
  absl::Status Load(Device& device, const ModelConfig& config, const std::string& fingerprint,
                    const std::vector<std::string>& names,
                    const std::vector<RegionManifest>& manifests, const Fetch& fetch);

  // All that Load was asked for, by name.
  std::vector<std::shared_ptr<const Weights>> all() const;
  // One of them as it is mapped, or null.
  std::shared_ptr<const Region> Find(const std::string& name) const;
  // The regions of this model that are mapped now, with the manifests that they came with.
  std::vector<std::shared_ptr<const Region>> Held(const std::string& fingerprint) const;
  void Clear();

 private:
  struct Entry {
    std::shared_ptr<const Region> region;
    std::shared_ptr<const Weights> weights;
  };
  void DropExcept(const std::string& fingerprint, const std::vector<RegionManifest>& wanted);

  mutable std::mutex mutex_;  // taken for every change, and by Held
  std::string fingerprint_;
  std::map<std::string, Entry> entries_;
};

}  // namespace tandem
