#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace tandem {

// Goes over the members of a request that its parser does not read. Members known to change nothing
// here (user, store, metadata, ...) pass. Members that would change the answer in a way that is not
// supported (tools, response_format, ...) pass only with the value that asks for nothing; else
// InvalidArgument names them. So do members nobody knows: a setting is never dropped in silence.
absl::Status CheckOtherFields(const nlohmann::json& request,
                              std::span<const std::string_view> known);

}  // namespace tandem
