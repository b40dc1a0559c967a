#include "lib/worker/weights_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {

void WeightsStore::DropExcept(const std::string& fingerprint,
                              const std::vector<RegionManifest>& wanted) {
  const std::lock_guard lock(mutex_);
  if (fingerprint != fingerprint_) entries_.clear();
  fingerprint_ = fingerprint;
  std::erase_if(entries_, [&](const auto& entry) {
    return std::none_of(wanted.begin(), wanted.end(), [&](const RegionManifest& manifest) {
      return manifest.name == entry.first &&
             manifest.identity == entry.second.region->manifest().identity;
    });
  });
}

absl::Status WeightsStore::Load(Device& device, const ModelConfig& config,
                                const std::string& fingerprint,
                                const std::vector<std::string>& names,
                                const std::vector<RegionManifest>& manifests, const Fetch& fetch) {
  std::vector<RegionManifest> wanted;
  for (const std::string& name : names) {
    const auto manifest = std::find_if(manifests.begin(), manifests.end(),
                                       [&](const RegionManifest& m) { return m.name == name; });
    if (manifest == manifests.end()) {
      return absl::NotFoundError(absl::StrCat(
          "region '", name, "': expected a manifest, found none among ", manifests.size()));
    }
    wanted.push_back(*manifest);
  }
  DropExcept(fingerprint, wanted);
  for (const RegionManifest& manifest : wanted) {
    const std::string where = absl::StrCat("region '", manifest.name, "'");
    if (entries_.contains(manifest.name)) continue;
    absl::StatusOr<RegionDescriptors> descriptors = fetch(manifest);
    if (!descriptors.ok()) return Annotate(descriptors.status(), where);
    const absl::StatusOr<FileIdentity> identity = IdentityOf(descriptors->memfd.get());
    if (!identity.ok() || !(*identity == manifest.identity)) {
      return absl::FailedPreconditionError(
          absl::StrCat(where, ": expected the file of the manifest, found another one"));
    }
    // Whoever handed it out knows that its bytes are right (region_socket.h).
    absl::StatusOr<std::shared_ptr<const Region>> region =
        Region::Open(std::move(descriptors->memfd), manifest, config, /*verify_checksums=*/false,
                     std::move(descriptors->windows));
    if (!region.ok()) return Annotate(region.status(), where);
    absl::StatusOr<std::shared_ptr<const Weights>> weights = device.Import(*region, config);
    if (!weights.ok()) {
      return Annotate(weights.status(),
                      absl::StrCat(where, ": importing it into ", device.info().name));
    }
    // A device that had no use for the dma-bufs need not keep them open.
    (*region)->TakeWindows();
    spdlog::debug("region {}: {} bytes, {}", manifest.name, manifest.bytes,
                  (*weights)->import_kind());
    const std::lock_guard lock(mutex_);
    entries_[manifest.name] = {*std::move(region), *std::move(weights)};
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const Weights>> WeightsStore::all() const {
  std::vector<std::shared_ptr<const Weights>> all;
  all.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) all.push_back(entry.weights);
  return all;
}

std::shared_ptr<const Region> WeightsStore::Find(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second.region;
}

std::vector<std::shared_ptr<const Region>> WeightsStore::Held(
    const std::string& fingerprint) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const Region>> held;
  if (fingerprint != fingerprint_) return held;
  for (const auto& [name, entry] : entries_) held.push_back(entry.region);
  return held;
}

void WeightsStore::Clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

}  // namespace tandem
