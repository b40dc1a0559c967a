#include "lib/service/api_keys.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxKeyBytes = 1024;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxKeyFileBytes = 1 << 20;
constexpr std::string_view kHashMark = "sha256:";
constexpr KeyScope kScopes[] = {KeyScope::kInference, KeyScope::kMetrics, KeyScope::kAdmin};

absl::StatusOr<std::string> ReadText(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::ErrnoToStatus(errno != 0 ? errno : EIO, "cannot be opened");
  std::string text(kMaxKeyFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::UnavailableError("cannot be read");
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() <= kMaxKeyFileBytes) return text;
  return absl::InvalidArgumentError(
      Cat("expected at most ", kMaxKeyFileBytes, " bytes, found more"));
}

std::string What(const std::string& path) { return Cat("API key file '", path, "'"); }

// Its words; none for a line that says nothing.
std::vector<std::string> WordsOf(absl::string_view line) {
  const absl::string_view text = absl::StripAsciiWhitespace(line);
  if (text.empty() || text.front() == '#') return {};
  return absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
}

absl::Status CheckKeyName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name.front() != '#' &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
                             c == '_' || c == '.' || c == '@';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("a key's name: expected 1 to ", kMaxNameBytes,
                                        " letters, digits and any of '-_.@', found ", name.size(),
                                        " bytes"));
}

absl::Status SetScopes(std::string_view text, ApiKeyRule* rule) {
  rule->scopes = 0;
  for (const absl::string_view word : absl::StrSplit(AbslView(text), ',')) {
    const auto scope =
        std::find_if(std::begin(kScopes), std::end(kScopes), [&](KeyScope candidate) {
          return NameOf(candidate) == std::string_view(word.data(), word.size());
        });
    if (scope == std::end(kScopes)) {
      return absl::InvalidArgumentError(
          "scopes: expected inference, metrics or admin, with commas, found another word");
    }
    rule->scopes |= static_cast<std::uint8_t>(*scope);
  }
  return absl::OkStatus();
}

absl::Status SetOption(std::string_view word, ApiKeyRule* rule) {
  const std::size_t equal = word.find('=');
  const std::string_view name = word.substr(0, equal);
  const std::string_view value = equal == word.npos ? "" : word.substr(equal + 1);
  if (name == "scopes") return SetScopes(value, rule);
  std::int32_t* field = nullptr;
  if (name == "requests") field = &rule->requests;
  if (name == "requests_per_minute") field = &rule->requests_per_minute;
  if (name == "tokens_per_minute") field = &rule->tokens_per_minute;
  if (field == nullptr) {
    return absl::InvalidArgumentError(
        "expected scopes=, requests=, requests_per_minute= or tokens_per_minute=, found another "
        "word");
  }
  if (!absl::SimpleAtoi(AbslView(value), field) || *field < 1) {
    return absl::InvalidArgumentError(Cat(name, ": expected a whole number from 1"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ApiKeyRule> ParseRule(const std::vector<std::string>& words, std::size_t line) {
  ApiKeyRule rule;
  if (words.size() == 1) {
    TANDEM_RETURN_IF_ERROR(CheckApiKeys(words));
    rule.name = Cat("line-", line);
    rule.sha256 = HashApiKey(words[0]);
    return rule;
  }
  rule.name = words[0];
  rule.scopes = static_cast<std::uint8_t>(KeyScope::kInference);
  TANDEM_RETURN_IF_ERROR(CheckKeyName(rule.name));
  const std::string hash = words[1].starts_with(kHashMark) ? words[1].substr(kHashMark.size()) : "";
  const bool is_hex = hash.size() == 2 * rule.sha256.size() &&
                      std::all_of(hash.begin(), hash.end(),
                                  [](unsigned char c) { return absl::ascii_isxdigit(c); });
  if (!is_hex) {
    return absl::InvalidArgumentError(
        "expected a key of one word, or NAME sha256:HEX with 64 digits, found something else");
  }
  for (std::size_t i = 0; i < rule.sha256.size(); ++i)
    std::from_chars(&hash[2 * i], &hash[2 * i] + 2, rule.sha256[i], 16);
  for (std::size_t i = 2; i < words.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(SetOption(words[i], &rule));
  }
  return rule;
}

// As long as it lives, nobody else changes a key file of that folder: of two who read, change and
// write at once, one would lose what it did.
absl::StatusOr<UniqueFd> LockFolderOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
  UniqueFd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.valid() && ::flock(lock.get(), LOCK_EX) == 0) return lock;
  return absl::ErrnoToStatus(errno, Cat(What(path), ": its folder cannot be locked"));
}

// Writes `text` beside the file and renames it: who reads sees one or the other.
absl::Status Replace(const std::string& path, std::string_view text) {
  const std::string temporary = Cat(path, ".", ::getpid());
  struct stat info {};
  const bool is_there = ::stat(path.c_str(), &info) == 0;
  const mode_t mode = is_there ? info.st_mode & 0777 : 0600;
  const auto failed = [&] {
    const absl::Status status = absl::ErrnoToStatus(errno, Cat(What(path), ": cannot be written"));
    ::unlink(temporary.c_str());
    return status;
  };
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!file.valid()) return absl::ErrnoToStatus(errno, Cat(What(path), ": cannot be written"));
  // Who could read it, the gateway's user perhaps, can read it still.
  if (is_there && (info.st_uid != ::geteuid() || info.st_gid != ::getegid()) &&
      ::fchown(file.get(), info.st_uid, info.st_gid) != 0) {
    return failed();
  }
  errno = ENOSPC;
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::fsync(file.get()) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return failed();
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view NameOf(KeyScope scope) {
  switch (scope) {
    case KeyScope::kInference:
      return "inference";
    case KeyScope::kMetrics:
      return "metrics";
    case KeyScope::kAdmin:
      break;
  }
  return "admin";
}

absl::StatusOr<std::vector<ApiKeyRule>> ParseKeyRules(std::string_view text) {
  std::vector<ApiKeyRule> rules;
  std::size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    ++number;
    const std::vector<std::string> words = WordsOf(line);
    if (words.empty()) continue;
    absl::StatusOr<ApiKeyRule> rule = ParseRule(words, number);
    if (!rule.ok()) return Annotate(rule.status(), Cat("line ", number));
    for (const ApiKeyRule& other : rules) {
      if (other.name == rule->name) {
        return absl::InvalidArgumentError(
            Cat("line ", number, ": expected different names, found '", rule->name, "' twice"));
      }
    }
    rules.push_back(*std::move(rule));
  }
  return rules;
}

absl::StatusOr<std::vector<ApiKeyRule>> ReadKeyRules(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return Annotate(text.status(), What(path));
  absl::StatusOr<std::vector<ApiKeyRule>> rules = ParseKeyRules(*text);
  if (!rules.ok()) return Annotate(rules.status(), What(path));
  return rules;
}

absl::StatusOr<std::vector<ApiKeyRule>> NeedKeyRules(const std::string& path) {
  absl::StatusOr<std::vector<ApiKeyRule>> rules = ReadKeyRules(path);
  if (!rules.ok() || !rules->empty()) return rules;
  return absl::InvalidArgumentError(
      Cat(What(path), ": expected a key on a line of its own, found none"));
}

std::string FormatKeyRule(const ApiKeyRule& rule) {
  std::vector<std::string> scopes;
  for (const KeyScope scope : kScopes) {
    if ((rule.scopes & static_cast<std::uint8_t>(scope)) != 0) scopes.emplace_back(NameOf(scope));
  }
  const absl::string_view bytes(reinterpret_cast<const char*>(rule.sha256.data()),
                                rule.sha256.size());
  std::string line = Cat(rule.name, " ", kHashMark, absl::BytesToHexString(bytes),
                         " scopes=", absl::StrJoin(scopes, ","));
  if (rule.requests > 0) line += Cat(" requests=", rule.requests);
  if (rule.requests_per_minute > 0) line += Cat(" requests_per_minute=", rule.requests_per_minute);
  if (rule.tokens_per_minute > 0) line += Cat(" tokens_per_minute=", rule.tokens_per_minute);
  return line;
}

std::string MakeApiKey() {
  std::array<char, 32> bytes{};
  TANDEM_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size()) == 1);
  std::string text = absl::WebSafeBase64Escape(absl::string_view(bytes.data(), bytes.size()));
  text.erase(std::remove(text.begin(), text.end(), '='), text.end());
  return Cat("tdm_", text);
}

std::array<std::uint8_t, 32> HashApiKey(std::string_view key) {
  std::array<std::uint8_t, 32> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  return hash;
}

absl::StatusOr<std::vector<std::string>> ReadApiKeyFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return Annotate(text.status(), What(path));
  std::vector<std::string> keys;
  bool hashed = false;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const absl::string_view key = absl::StripAsciiWhitespace(line);
    if (key.empty() || key.front() == '#') continue;
    const std::vector<std::string> words = WordsOf(line);
    if (words.size() > 1 && words[1].starts_with(kHashMark)) {
      hashed = true;
      continue;
    }
    keys.emplace_back(key);
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError(
        Cat(What(path), ": expected a key on a line of its own, found ",
            hashed ? "hashes only: a key cannot be shown from them" : "none"));
  }
  TANDEM_RETURN_IF_ERROR(Annotate(CheckApiKeys(keys), What(path)));
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

absl::Status AddKeyRule(const std::string& path, const ApiKeyRule& rule) {
  TANDEM_RETURN_IF_ERROR(CheckKeyName(rule.name));
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd lock, LockFolderOf(path));
  absl::StatusOr<std::string> text = ReadText(path);
  if (absl::IsNotFound(text.status())) text = std::string();
  if (!text.ok()) return Annotate(text.status(), What(path));
  const absl::StatusOr<std::vector<ApiKeyRule>> rules = ParseKeyRules(*text);
  if (!rules.ok()) return Annotate(rules.status(), What(path));
  for (const ApiKeyRule& other : *rules) {
    if (other.name == rule.name) {
      return absl::AlreadyExistsError(Cat(What(path), " has a key '", rule.name, "' already"));
    }
  }
  if (!text->empty() && text->back() != '\n') text->push_back('\n');
  return Replace(path, Cat(*text, FormatKeyRule(rule), "\n"));
}

absl::Status RemoveKeyRule(const std::string& path, std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd lock, LockFolderOf(path));
  const absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return Annotate(text.status(), What(path));
  const absl::StatusOr<std::vector<ApiKeyRule>> rules = ParseKeyRules(*text);
  if (!rules.ok()) return Annotate(rules.status(), What(path));
  std::vector<std::string> kept;
  bool found = false;
  std::size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++number;
    const std::vector<std::string> words = WordsOf(line);
    const bool is_it =
        words.size() > 1 ? words[0] == name : words.size() == 1 && Cat("line-", number) == name;
    found = found || is_it;
    if (!is_it) kept.emplace_back(line);
  }
  if (!found) return absl::NotFoundError(Cat(What(path), " has no key '", name, "'"));
  return Replace(path, absl::StrJoin(kept, "\n"));
}

}  // namespace tandem
