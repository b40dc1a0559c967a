#include "lib/service/file_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace tandem {
namespace {

// What tells one state of a file from another; all zero where there is none.
using Mark = std::array<std::int64_t, 6>;

Mark MarkOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  return {static_cast<std::int64_t>(info.st_dev),
          static_cast<std::int64_t>(info.st_ino),
          info.st_size,
          info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec,
          info.st_ctim.tv_sec * 1'000'000'000 + info.st_ctim.tv_nsec};
}

std::vector<Mark> MarksOf(const std::vector<std::string>& paths) {
  std::vector<Mark> marks;
  for (const std::string& path : paths) marks.push_back(MarkOf(path));
  return marks;
}

}  // namespace

absl::StatusOr<FileWatch> FileWatch::Start(std::vector<std::string> paths,
                                           std::function<void()> changed, absl::Duration period) {
  FileWatch watch;
  watch.stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!watch.stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  const int milliseconds = static_cast<int>(absl::ToInt64Milliseconds(period));
  // Before the thread: what changes from here on is seen.
  std::vector<Mark> first = MarksOf(paths);
  watch.thread_ =
      std::thread([fd = watch.stop_.get(), paths = std::move(paths), seen = std::move(first),
                   changed = std::move(changed), milliseconds]() mutable {
        pollfd stop{fd, POLLIN, 0};
        while (true) {
          const int ready = ::poll(&stop, 1, milliseconds);
          if (ready > 0) return;
          if (ready < 0) continue;
          std::vector<Mark> now = MarksOf(paths);
          if (now == seen) continue;
          seen = std::move(now);
          changed();
        }
      });
  return watch;
}

FileWatch::~FileWatch() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

}  // namespace tandem
