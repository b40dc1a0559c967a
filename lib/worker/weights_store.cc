#include "lib/worker/weights_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {

absl::Status WeightsStore::Load(Device& device, const ModelConfig& config,
                                const std::string& fingerprint,
                                const std::vector<std::string>& names,
                                const std::vector<RegionManifest>& manifests, const Fetch& fetch) {
  if (fingerprint != fingerprint_) weights_.clear();
  std::erase_if(weights_, [&](const auto& entry) {
    return std::find(names.begin(), names.end(), entry.first) == names.end();
  });
  fingerprint_ = fingerprint;
  for (const std::string& name : names) {
    const auto manifest = std::find_if(manifests.begin(), manifests.end(),
                                       [&](const RegionManifest& m) { return m.name == name; });
    if (manifest == manifests.end()) {
      return absl::NotFoundError(absl::StrCat(
          "region '", name, "': expected a manifest, found none among ", manifests.size()));
    }
    const auto kept = weights_.find(name);
    if (kept != weights_.end() && kept->second->manifest().bytes == manifest->bytes) continue;
    weights_.erase(name);
    absl::StatusOr<UniqueFd> fd = fetch(name);
    if (!fd.ok()) return Annotate(fd.status(), absl::StrCat("region '", name, "'"));
    // The loader checked the bytes when it wrote them and sealed them; reading all of them again
    // would double the start's time.
    absl::StatusOr<std::shared_ptr<const Region>> region =
        Region::Open(*std::move(fd), *manifest, config, /*verify_checksums=*/false);
    if (!region.ok()) return Annotate(region.status(), absl::StrCat("region '", name, "'"));
    absl::StatusOr<std::shared_ptr<const Weights>> weights =
        device.Import(*std::move(region), config);
    if (!weights.ok())
      return Annotate(weights.status(),
                      absl::StrCat("region '", name, "': importing it into ", device.info().name));
    spdlog::debug("region {}: {} bytes, {}", name, manifest->bytes, (*weights)->import_kind());
    weights_.emplace(name, *std::move(weights));
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const Weights>> WeightsStore::all() const {
  std::vector<std::shared_ptr<const Weights>> all;
  all.reserve(weights_.size());
  for (const auto& [name, weights] : weights_) all.push_back(weights);
  return all;
}

}  // namespace tandem
