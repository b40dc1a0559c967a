#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"

namespace tandem {

// A file that is only read, with pread and never through a mapping: a file that shrinks while it is
// read then gives an error instead of SIGBUS. Any thread may read.
class InputFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED ..., or INVALID_ARGUMENT for anything but a regular file; the path
  // stands in the text.
  static absl::StatusOr<InputFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // when it was opened
  std::int64_t modified_ns() const { return modified_ns_; }

  // Fills `out` from `offset`. DATA_LOSS with the path, what was expected and found when the file
  // ends before.
  absl::Status ReadAt(std::uint64_t offset, std::span<std::byte> out) const;
  // The whole file; INVALID_ARGUMENT when it is longer than `limit`.
  absl::StatusOr<std::string> ReadAll(std::uint64_t limit) const;

 private:
  InputFile() = default;
  std::string path_;
  UniqueFd fd_;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
};

bool FileExists(const std::string& path);

// A name out of a file, for an error line: in quotes, control characters escaped, cut at 120 bytes.
std::string QuotedName(std::string_view name);

}  // namespace tandem
