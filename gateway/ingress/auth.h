#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// The API keys that callers of the public ports must show. With none, everybody may call (and the
// ports stay on loopback: see listen_address.h). Immutable: any thread.
class ApiKeys {
 public:
  ApiKeys() = default;
  // InvalidArgument for a key that CheckApiKeys of lib/service/api_keys.h refuses.
  static absl::StatusOr<ApiKeys> Create(std::vector<std::string> keys);
  // All keys of a file, see lib/service/api_keys.h.
  static absl::StatusOr<ApiKeys> ReadFile(const std::string& path);

  bool required() const { return !keys_.empty(); }

  // `authorization`: the value of the header or metadata entry, "Bearer KEY" ("" when absent).
  // Unauthenticated unless a key is right or none is required. The time taken depends on the
  // length of what was sent, not on where it differs.
  absl::Status Check(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace tandem
