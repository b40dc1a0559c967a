#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// The keys in a file, for those who ask for a key and for those who show one: one a line, white
// space around it (also the \r of a file from Windows) does not count, empty lines and lines that
// begin with '#' are skipped. NOT_FOUND for a file that cannot be opened; INVALID_ARGUMENT for one
// without a key (it was meant to protect something) or with one that CheckApiKeys refuses. Errors
// name the file, never a key.
absl::StatusOr<std::vector<std::string>> ReadApiKeyFile(const std::string& path);

// Every key must be 1 to 1024 printable ASCII characters without spaces: what fits into a header
// and into gRPC metadata.
absl::Status CheckApiKeys(const std::vector<std::string>& keys);

}  // namespace tandem
