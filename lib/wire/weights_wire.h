#pragma once

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/weights/region.h"

namespace tandem::v1 {
class RegionManifest;
}  // namespace tandem::v1

namespace tandem {

// Region manifests to and from proto/tandem/v1/loader.proto. Apart from model_wire.h because the
// gateway imports no weights.

v1::RegionManifest ToProto(const RegionManifest& manifest);
// Valid for `config` (ValidateManifest). INVALID_ARGUMENT names the region, the tensor, what was
// expected and what was found.
absl::StatusOr<RegionManifest> FromProto(const v1::RegionManifest& message,
                                         const ModelConfig& config);

}  // namespace tandem
