#include "lib/service/flags.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

struct ByteUnit {
  std::string_view name;
  int shift;
};
constexpr ByteUnit kByteUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};

absl::Status Expected(const std::string& what, std::string_view found) {
  return absl::InvalidArgumentError(Cat("expected ", what, ", found '", found, "'"));
}

template <typename Integer>
bool ParseWhole(std::string_view text, Integer* value) {
  // SimpleAtoi takes spaces and a plus sign, people do not mean them.
  return !text.empty() &&
         (absl::ascii_isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-') &&
         absl::ascii_isdigit(static_cast<unsigned char>(text.back())) &&
         absl::SimpleAtoi(AbslView(text), value);
}

template <typename Integer>
absl::Status SetNumber(std::string_view text, Integer least, Integer most, Integer* field) {
  Integer value = 0;
  if (!ParseWhole(text, &value) || value < least || value > most)
    return Expected(Cat("a whole number from ", least, " to ", most), text);
  *field = value;
  return absl::OkStatus();
}

absl::Status SetBytes(std::string_view text, std::uint64_t least, std::uint64_t most,
                      std::uint64_t* field) {
  std::string_view digits = text;
  int shift = 0;
  for (const ByteUnit& unit : kByteUnits) {
    if (!text.ends_with(unit.name)) continue;
    digits.remove_suffix(unit.name.size());
    shift = unit.shift;
  }
  std::uint64_t value = 0;
  const bool fits =
      ParseWhole(digits, &value) && value <= (std::numeric_limits<std::uint64_t>::max() >> shift);
  value <<= shift;
  if (!fits || value < least || value > most)
    return Expected(Cat("a number of bytes from ", least, " to ", most, ", such as 4GiB"), text);
  *field = value;
  return absl::OkStatus();
}

absl::Status ZeroByte() {
  return absl::InvalidArgumentError("expected text, found a zero byte in it");
}

absl::Status SetText(std::string_view text, std::string* field) {
  if (text.empty()) return absl::InvalidArgumentError("expected a value, found none");
  if (text.find('\0') != std::string_view::npos) return ZeroByte();
  *field = std::string(text);
  return absl::OkStatus();
}

// How many letters must be put in, left out, exchanged or swapped to make one of the other.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::array<std::vector<std::size_t>, 3> rows;
  for (auto& row : rows) row.resize(b.size() + 1);
  std::iota(rows[0].begin(), rows[0].end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& last = rows[(i + 2) % 3];
    const auto& before = rows[(i + 1) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

std::string Flag::Variable() const {
  return scope == FlagScope::kCommandLine ? "" : "TANDEM_" + absl::AsciiStrToUpper(name);
}

std::string NearestName(std::string_view text, const std::vector<std::string>& names) {
  // A long name that the text begins is near, too; a text of another length is not worth comparing.
  constexpr std::size_t kLongestText = 64;
  if (text.size() > kLongestText || text.empty()) return "";
  std::string best;
  std::size_t least = std::max<std::size_t>(1, text.size() / 3) + 1;
  for (const std::string& name : names) {
    const std::size_t distance =
        text.size() >= 3 && name.starts_with(text) ? 1 : Distance(text, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

std::vector<std::string> FlagList::SplitAtCommas(std::string_view text) {
  return absl::StrSplit(AbslView(text), ',');
}

void FlagList::Section(std::string title, FlagScope scope) {
  section_ = std::move(title);
  scope_ = scope;
}

void FlagList::Add(Flag flag) {
  TANDEM_CHECK(Find(flag.name) == nullptr);
  flag.initial = flag.show();
  flag.section = section_;
  flag.scope = scope_;
  flags_.push_back(std::move(flag));
}

void FlagList::Text(std::string name, std::string* field, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kText,
       [field](std::string_view text) { return SetText(text, field); },
       [field] { return *field; }});
}

void FlagList::Path(std::string name, std::string* field, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kPath,
       [field](std::string_view text) { return SetText(text, field); },
       [field] { return *field; }});
}

void FlagList::Texts(std::string name, std::vector<std::string>* field, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kList,
       [field](std::string_view text) -> absl::Status {
         std::vector<std::string> parts = SplitAtCommas(text);
         if (std::count(parts.begin(), parts.end(), "") > 0)
           return Expected("texts with commas between them", text);
         if (text.find('\0') != std::string_view::npos) return ZeroByte();
         *field = std::move(parts);
         return absl::OkStatus();
       },
       [field] { return absl::StrJoin(*field, ","); }});
}

void FlagList::Number(std::string name, std::int32_t* field, std::int32_t least, std::int32_t most,
                      std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kInteger,
       [=](std::string_view text) { return SetNumber(text, least, most, field); },
       [field] { return Cat(*field); }, static_cast<double>(least), static_cast<double>(most)});
}

void FlagList::Number(std::string name, std::uint64_t* field, std::uint64_t least,
                      std::uint64_t most, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kInteger,
       [=](std::string_view text) { return SetNumber(text, least, most, field); },
       [field] { return Cat(*field); }, static_cast<double>(least), static_cast<double>(most)});
}

void FlagList::Bytes(std::string name, std::uint64_t* field, std::uint64_t least,
                     std::uint64_t most, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kBytes,
       [=](std::string_view text) { return SetBytes(text, least, most, field); },
       [field] { return Cat(*field); }, static_cast<double>(least), static_cast<double>(most)});
}

void FlagList::Real(std::string name, double* field, double least, double most, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kReal,
       [=](std::string_view text) -> absl::Status {
         double value = 0;
         if (!absl::SimpleAtod(AbslView(text), &value) || !(value >= least && value <= most))
           return Expected(Cat("a number from ", least, " to ", most), text);
         *field = value;
         return absl::OkStatus();
       },
       [field] { return Cat(*field); }, least, most});
}

void FlagList::Time(std::string name, absl::Duration* field, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kTime,
       [field](std::string_view text) -> absl::Status {
         absl::Duration value;
         if (!absl::ParseDuration(AbslView(text), &value) || value <= absl::ZeroDuration() ||
             value == absl::InfiniteDuration()) {
           return Expected("a time such as 500ms, 3s or 5m", text);
         }
         *field = value;
         return absl::OkStatus();
       },
       [field] { return absl::FormatDuration(*field); }});
}

void FlagList::Switch(std::string name, bool* field, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kSwitch,
       [field](std::string_view text) -> absl::Status {
         if (text != "true" && text != "false") return Expected("true or false", text);
         *field = text == "true";
         return absl::OkStatus();
       },
       [field] { return std::string(*field ? "true" : "false"); }});
}

void FlagList::Custom(std::string name, std::function<absl::Status(std::string_view)> set,
                      std::function<std::string()> show, std::string help) {
  Add({std::move(name), std::move(help), FlagKind::kList, std::move(set), std::move(show)});
}

// "unknown-fields" is another spelling of "unknown_fields".
const Flag* FlagList::Find(std::string_view name) const {
  const std::string spelled = absl::StrReplaceAll(AbslView(name), {{"-", "_"}});
  for (const Flag& flag : flags_) {
    if (flag.name == spelled) return &flag;
  }
  return nullptr;
}

std::string FlagList::Nearest(std::string_view name) const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  return NearestName(name, names);
}

absl::Status FlagList::Set(std::string_view name, std::string_view text, std::string source) {
  for (Flag& flag : flags_) {
    if (flag.name != name) continue;
    TANDEM_RETURN_IF_ERROR(Annotate(flag.set(text), source));
    flag.source = std::move(source);
    return absl::OkStatus();
  }
  const std::string nearest = Nearest(name);
  return absl::NotFoundError(Cat(source, ": unknown key '", name, "'",
                                 nearest.empty() ? "" : Cat("; did you mean '", nearest, "'?")));
}

absl::Status FlagList::ReadEnvironment() {
  for (const Flag& flag : flags_) {
    const std::string variable = flag.Variable();
    const char* text = variable.empty() ? nullptr : std::getenv(variable.c_str());
    if (text != nullptr && *text != '\0') TANDEM_RETURN_IF_ERROR(Set(flag.name, text, variable));
  }
  return absl::OkStatus();
}

std::vector<std::string> FlagList::Changed() const {
  std::vector<std::string> arguments;
  for (const Flag& flag : flags_) {
    const std::string value = flag.show();
    if (value != flag.initial) arguments.push_back(Cat("--", flag.name, "=", value));
  }
  return arguments;
}

}  // namespace tandem
