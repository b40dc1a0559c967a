#include "gateway/ingress/auth.h"

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

bool EqualInConstantTime(std::string_view given, std::string_view key) {
  std::size_t difference = given.size() ^ key.size();
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char expected = key[i % key.size()];
    difference |= static_cast<std::uint8_t>(given[i] ^ expected);
  }
  return difference == 0;
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::Create(std::vector<std::string> keys) {
  TANDEM_RETURN_IF_ERROR(CheckApiKeys(keys));
  ApiKeys result;
  result.keys_ = std::move(keys);
  return result;
}

absl::StatusOr<ApiKeys> ApiKeys::ReadFile(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> keys, ReadApiKeyFile(path));
  return Create(std::move(keys));
}

absl::Status ApiKeys::Check(std::string_view authorization) const {
  if (!required()) return absl::OkStatus();
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size() ||
      !absl::EqualsIgnoreCase(AbslView(authorization.substr(0, kScheme.size())),
                              AbslView(kScheme))) {
    return absl::UnauthenticatedError(
        "an API key is needed: send it as \"Authorization: Bearer KEY\"");
  }
  const absl::string_view trimmed =
      absl::StripAsciiWhitespace(AbslView(authorization.substr(kScheme.size())));
  const std::string_view given(trimmed.data(), trimmed.size());
  bool right = false;
  for (const std::string& key : keys_) right |= EqualInConstantTime(given, key);
  if (!right) return absl::UnauthenticatedError("incorrect API key provided");
  return absl::OkStatus();
}

}  // namespace tandem
