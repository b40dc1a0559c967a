#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// $XDG_CACHE_HOME/tandem, or ~/.cache/tandem. Empty where neither variable is an absolute path.
std::string UserCacheFolder();

// A file of the user's cache: it belongs to this user, no other may write it or its folder, and it
// is replaced whole or not at all. Any thread.
class KeptFile {
 public:
  // `folder` need not exist; empty: nothing is kept. Nothing longer than `most_bytes` is read.
  KeptFile(const std::string& folder, const std::string& name, std::uint64_t most_bytes);

  // What was kept; empty where there is nothing yet. FAILED_PRECONDITION where the file is not this
  // user's alone, DATA_LOSS where it is too long.
  absl::StatusOr<std::vector<std::byte>> Load() const;
  // In place of what was there: others that start meanwhile read the old or the new file. Makes the
  // folder.
  absl::Status Store(std::span<const std::byte> bytes) const;
  const std::string& path() const { return path_; }

 private:
  const std::string folder_;
  const std::string name_;
  const std::uint64_t most_bytes_;
  const std::string path_;  // empty: nothing is kept
};

}  // namespace tandem
