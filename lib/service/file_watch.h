#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/fd.h"

namespace tandem {

// Looks at files now and then and tells when one of them is another than before: other bytes, or
// another file under the name (which is what renaming and changing a link do). It asks the file
// system once a period instead of being told, because that works for every kind of mount.
class FileWatch {
 public:
  static constexpr absl::Duration kPeriod = absl::Seconds(1);

  // `changed` is called from a thread of the watch.
  static absl::StatusOr<FileWatch> Start(std::vector<std::string> paths,
                                         std::function<void()> changed,
                                         absl::Duration period = kPeriod);
  FileWatch(FileWatch&&) = default;
  FileWatch& operator=(FileWatch&&) = delete;
  // No call of `changed` runs afterwards.
  ~FileWatch();

 private:
  FileWatch() = default;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace tandem
