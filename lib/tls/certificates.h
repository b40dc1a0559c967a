#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/service/file_watch.h"

namespace tandem {

// Where a process finds what it shows and believes in TLS; all PEM.
struct TlsFiles {
  std::string certificate;  // its own, with those between it and the authority behind it
  std::string key;
  std::string authorities;  // whose certificates of others are believed; empty: nobody is asked

  bool set() const { return !certificate.empty() || !key.empty() || !authorities.empty(); }
};

// Their contents, checked.
struct TlsPems {
  std::string certificate;
  std::string key;
  std::string authorities;
};

// Reads and checks: the certificate is one of now, the key is its key and has no password.
// NOT_FOUND and INVALID_ARGUMENT name the file, never what stands in it.
absl::StatusOr<TlsPems> ReadTlsFiles(const TlsFiles& files);

// Certificate and key of a process, read again when their files change. What cannot be used (half
// written, expired, of another key) is said in the log and leaves what is there. Thread-safe.
class Certificates {
 public:
  static absl::StatusOr<std::unique_ptr<Certificates>> Open(
      const TlsFiles& files, absl::Duration period = FileWatch::kPeriod);

  // Another pointer whenever they have changed.
  std::shared_ptr<const TlsPems> current() const;
  bool asks_peers() const { return !files_.authorities.empty(); }
  // `changed` is called at once, and from another thread after every change. This must be destroyed
  // before what it uses.
  void Follow(std::function<void(const TlsPems& pems)> changed);

 private:
  explicit Certificates(TlsFiles files) : files_(std::move(files)) {}
  void Reload();

  const TlsFiles files_;
  mutable std::mutex mutex_;
  std::shared_ptr<const TlsPems> current_;
  std::vector<std::function<void(const TlsPems& pems)>> followers_;
  std::optional<FileWatch> watch_;
};

}  // namespace tandem
