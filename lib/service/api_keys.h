#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// What a key may be used for. Admin includes the others.
enum class KeyScope : std::uint8_t { kInference = 1, kMetrics = 2, kAdmin = 4 };
inline constexpr std::uint8_t kAllScopes = 7;
// "inference", "metrics", "admin".
std::string_view NameOf(KeyScope scope);

// A key as the one who asks for it knows it: its name, what it may do, and a hash to compare with.
// Limits of 0 are none.
struct ApiKeyRule {
  std::string name;
  std::array<std::uint8_t, 32> sha256{};
  // Of KeyScope, or-ed.
  std::uint8_t scopes = kAllScopes;
  // Running at a time.
  std::int32_t requests = 0;
  std::int32_t requests_per_minute = 0;
  // Prompts and answers.
  std::int32_t tokens_per_minute = 0;

  bool allows(KeyScope scope) const {
    return (scopes &
            (static_cast<std::uint8_t>(scope) | static_cast<std::uint8_t>(KeyScope::kAdmin))) != 0;
  }
};

// A key file, for those who ask for keys. White space around a line does not count (also the \r of
// a file from Windows); empty lines and those that begin with '#' are skipped. A line is
//
//   NAME sha256:HEX [scopes=inference,metrics,admin] [requests=N] [requests_per_minute=N]
//                   [tokens_per_minute=N]
//
// (without scopes: inference) or, plainly, a key of one word, which may do everything and is called
// "line-N". INVALID_ARGUMENT names the line, never a key. A file without a key gives an empty list.
absl::StatusOr<std::vector<ApiKeyRule>> ParseKeyRules(std::string_view text);
// The same of a file of at most 1 MiB. NOT_FOUND for one that cannot be opened; errors name it.
absl::StatusOr<std::vector<ApiKeyRule>> ReadKeyRules(const std::string& path);
// The same, but INVALID_ARGUMENT for a file without a key: it was meant to protect something.
absl::StatusOr<std::vector<ApiKeyRule>> NeedKeyRules(const std::string& path);
// A line of the first form, without a line end.
std::string FormatKeyRule(const ApiKeyRule& rule);

// A new key: "tdm_" and 256 random bits. Keys that this makes cannot be guessed, which is why one
// round of SHA-256 suffices to keep them.
std::string MakeApiKey();
std::array<std::uint8_t, 32> HashApiKey(std::string_view key);

// The plain keys in a file, for those who show one. INVALID_ARGUMENT for a file without any (one of
// hashes has none). Errors name the file, never a key.
absl::StatusOr<std::vector<std::string>> ReadApiKeyFile(const std::string& path);

// Every key must be 1 to 1024 printable ASCII characters without spaces: what fits into a header
// and into gRPC metadata.
absl::Status CheckApiKeys(const std::vector<std::string>& keys);

// Changes a key file of hashed lines and keeps everything else in it, comments too. The new file
// appears whole, with mode 0600 where there was none. ALREADY_EXISTS for a name that is there,
// NOT_FOUND for one that is not. A file that cannot be understood is left as it is.
absl::Status AddKeyRule(const std::string& path, const ApiKeyRule& rule);
absl::Status RemoveKeyRule(const std::string& path, std::string_view name);

}  // namespace tandem
