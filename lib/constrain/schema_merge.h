#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/constrain/schema_flat.h"

namespace tandem {

// Checks the plain keywords of one schema and brings them to one form: `type` a list, `const` an
// `enum` of one, a list in `items` as `prefixItems`. INVALID_ARGUMENT for a value that a keyword
// cannot have, and for what is never enforced (uniqueItems, multipleOf).
absl::Status NormaliseSchema(FlatSchema& schema, const std::string& path);

// What fits both, where that can be said with plain keywords; nullopt where surely no value does.
absl::StatusOr<std::optional<FlatSchema>> MergeSchemas(const FlatSchema& a, const FlatSchema& b,
                                                       const std::string& path);

}  // namespace tandem
