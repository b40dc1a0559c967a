#include "lib/service/api_keys.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxKeyBytes = 1024;
constexpr std::size_t kMaxKeyFileBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadApiKeyFile(const std::string& path) {
  const std::string what = Cat("API key file '", path, "'");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(Cat(what, ": cannot be opened: ", std::strerror(errno)));
  std::string text(kMaxKeyFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::UnavailableError(Cat(what, ": cannot be read"));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxKeyFileBytes) {
    return absl::InvalidArgumentError(
        Cat(what, ": expected at most ", kMaxKeyFileBytes, " bytes, found more"));
  }
  std::vector<std::string> keys;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view key = absl::StripAsciiWhitespace(line);
    if (!key.empty() && key.front() != '#') keys.emplace_back(key);
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError(
        Cat(what, ": expected a key on a line of its own, found none"));
  }
  TANDEM_RETURN_IF_ERROR(Annotate(CheckApiKeys(keys), what));
  return keys;
}

absl::Status CheckApiKeys(const std::vector<std::string>& keys) {
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
  return absl::OkStatus();
}

}  // namespace tandem
