#include "loader/read/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  InputFile file;
  file.path_ = path;
  file.fd_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.fd_.valid()) return absl::ErrnoToStatus(errno, path);
  struct stat info;
  if (::fstat(file.fd_.get(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a regular file, found another kind"));
  }
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  file.modified_ns_ = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  return file;
}

absl::Status InputFile::ReadAt(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": reading at offset ", offset + done));
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": expected ", out.size(), " bytes at offset ",
                                              offset, ", found only ", done,
                                              " (the file is truncated or became shorter)"));
    }
    done += static_cast<std::size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> InputFile::ReadAll(std::uint64_t limit) const {
  if (size_ > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": expected at most ", limit, " bytes, found ", size_));
  }
  std::string text(size_, '\0');
  TANDEM_RETURN_IF_ERROR(ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

bool FileExists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string QuotedName(std::string_view name) {
  constexpr std::size_t kMaxBytes = 120;
  std::string text = absl::CHexEscape(AbslView(name.substr(0, kMaxBytes)));
  if (name.size() > kMaxBytes) text += "...";
  return absl::StrCat("'", text, "'");
}

}  // namespace tandem
