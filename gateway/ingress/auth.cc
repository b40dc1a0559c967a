#include "gateway/ingress/auth.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"

#include <cstdint>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxKeyBytes = 1024;
constexpr std::size_t kMaxKeyFileBytes = 1 << 20;

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
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].empty() || keys[i].size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(Cat("API key ", i + 1, ": expected 1 to ", kMaxKeyBytes,
                                            " bytes, found ", keys[i].size()));
    }
    for (const char c : keys[i]) {
      if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
        return absl::InvalidArgumentError(Cat(
            "API key ", i + 1, ": expected printable ASCII without spaces, found something else"));
      }
    }
  }
  ApiKeys result;
  result.keys_ = std::move(keys);
  return result;
}

absl::StatusOr<ApiKeys> ApiKeys::ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(Cat("API key file ", path, ": cannot be opened"));
  std::string text(kMaxKeyFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::UnavailableError(Cat("API key file ", path, ": read error"));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxKeyFileBytes) {
    return absl::InvalidArgumentError(
        Cat("API key file ", path, ": expected at most ", kMaxKeyFileBytes, " bytes"));
  }
  std::vector<std::string> keys;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view key = absl::StripAsciiWhitespace(line);
    if (!key.empty() && key.front() != '#') keys.emplace_back(key);
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError(
        Cat("API key file ", path, ": expected one key a line, found none"));
  }
  absl::StatusOr<ApiKeys> result = Create(std::move(keys));
  if (!result.ok()) {
    return absl::InvalidArgumentError(Cat("API key file ", path, ": ", result.status().message()));
  }
  return result;
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
