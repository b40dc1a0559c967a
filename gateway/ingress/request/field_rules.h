#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// What becomes of a field that a reader does not read itself. docs/openai-api.md has the table.
struct FieldRule {
  std::string_view name;
  // JSON values, separated by '|', that ask for nothing: with another one the field is refused,
  // because it would change the answer. "*": it is ignored whatever it says, because it changes
  // nothing in an answer. null always passes.
  std::string_view neutral;
};

// Fields that several APIs and servers know.
std::span<const FieldRule> CommonFieldRules();

// Goes over the members of a request that its reader does not read. `own`: the door's rules, which
// come before the common ones. A member that would change the answer is InvalidArgument
// (unsupported_parameter) unless its value asks for nothing. So is one that nobody knows
// (unknown_parameter), unless the options let it be ignored: then it is added to `ignored`, its
// name cut to what a header may carry.
absl::Status CheckOtherFields(const nlohmann::json& request,
                              std::span<const std::string_view> known,
                              std::span<const FieldRule> own, const ReadOptions& options,
                              std::vector<std::string>& ignored);

}  // namespace tandem
