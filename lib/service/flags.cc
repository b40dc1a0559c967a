#include "lib/service/flags.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kHelpIndent = 28;
constexpr std::size_t kHelpColumns = 100;

absl::Status Expected(const std::string& what, std::string_view found) {
  return absl::InvalidArgumentError(Cat("expected ", what, ", found '", found, "'"));
}

template <typename Integer>
absl::Status SetNumber(std::string_view text, Integer least, Integer most, Integer* field) {
  Integer value = 0;
  // SimpleAtoi takes spaces and a plus sign, people do not mean them.
  const bool digits =
      !text.empty() && (absl::ascii_isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-');
  if (!digits || !absl::SimpleAtoi(AbslView(text), &value) || value < least || value > most)
    return Expected(Cat("a whole number from ", least, " to ", most), text);
  *field = value;
  return absl::OkStatus();
}

// `text` in lines of kHelpColumns, each after the first indented.
std::string Wrapped(const std::string& text) {
  std::string out;
  std::size_t column = kHelpIndent;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > kHelpIndent && column + 1 + word.size() > kHelpColumns) {
      out += "\n" + std::string(kHelpIndent, ' ');
      column = kHelpIndent;
    } else if (column > kHelpIndent) {
      out += ' ';
      ++column;
    }
    out.append(word.data(), word.size());
    column += word.size();
  }
  return out;
}

}  // namespace

std::vector<std::string> FlagList::SplitAtCommas(std::string_view text) {
  return absl::StrSplit(AbslView(text), ',');
}

void FlagList::Add(Flag flag) {
  TANDEM_CHECK(Find(flag.name) == nullptr);
  flag.initial = flag.show();
  flags_.push_back(std::move(flag));
}

void FlagList::Text(std::string name, std::string* field, std::string help) {
  Add({std::move(name), std::move(help), false,
       [field](std::string_view text) -> absl::Status {
         if (text.empty()) return absl::InvalidArgumentError("expected a value, found none");
         if (text.find('\0') != std::string_view::npos)
           return absl::InvalidArgumentError("expected text, found a zero byte in it");
         *field = std::string(text);
         return absl::OkStatus();
       },
       [field] { return *field; }});
}

void FlagList::Texts(std::string name, std::vector<std::string>* field, std::string help) {
  Add({std::move(name), std::move(help), false,
       [field](std::string_view text) -> absl::Status {
         std::vector<std::string> parts = SplitAtCommas(text);
         if (std::count(parts.begin(), parts.end(), "") > 0)
           return Expected("texts with commas between them", text);
         *field = std::move(parts);
         return absl::OkStatus();
       },
       [field] { return absl::StrJoin(*field, ","); }});
}

void FlagList::Number(std::string name, std::int32_t* field, std::int32_t least, std::int32_t most,
                      std::string help) {
  Add({std::move(name), std::move(help), false,
       [=](std::string_view text) { return SetNumber(text, least, most, field); },
       [field] { return Cat(*field); }});
}

void FlagList::Number(std::string name, std::uint64_t* field, std::uint64_t least,
                      std::uint64_t most, std::string help) {
  Add({std::move(name), std::move(help), false,
       [=](std::string_view text) { return SetNumber(text, least, most, field); },
       [field] { return Cat(*field); }});
}

void FlagList::Real(std::string name, double* field, double least, double most, std::string help) {
  Add({std::move(name), std::move(help), false,
       [=](std::string_view text) -> absl::Status {
         double value = 0;
         if (!absl::SimpleAtod(AbslView(text), &value) || !(value >= least && value <= most))
           return Expected(Cat("a number from ", least, " to ", most), text);
         *field = value;
         return absl::OkStatus();
       },
       [field] { return Cat(*field); }});
}

void FlagList::Time(std::string name, absl::Duration* field, std::string help) {
  Add({std::move(name), std::move(help), false,
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
  Add({std::move(name), std::move(help), true,
       [field](std::string_view text) -> absl::Status {
         if (text != "true" && text != "false") return Expected("true or false", text);
         *field = text == "true";
         return absl::OkStatus();
       },
       [field] { return std::string(*field ? "true" : "false"); }});
}

void FlagList::Custom(std::string name, std::function<absl::Status(std::string_view)> set,
                      std::function<std::string()> show, std::string help) {
  Add({std::move(name), std::move(help), false, std::move(set), std::move(show)});
}

FlagList::Flag* FlagList::Find(std::string_view name) {
  for (Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

absl::StatusOr<std::vector<std::string>> FlagList::Parse(
    const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      words.push_back(argument);
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    Flag* flag = Find(std::string_view(name).substr(2));
    if (flag == nullptr)
      return absl::InvalidArgumentError(Cat(name, ": unknown flag (--help lists them)"));
    std::string value = "true";
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (!flag->is_switch) {
      if (++i == arguments.size())
        return absl::InvalidArgumentError(Cat(name, ": expected a value, found none"));
      value = arguments[i];
    }
    TANDEM_RETURN_IF_ERROR(Annotate(flag->set(value), name));
  }
  return words;
}

absl::Status FlagList::Configure(const std::string& name, std::string_view value) {
  Flag* flag = Find(name);
  if (flag == nullptr) {
    return absl::NotFoundError(
        Cat("unknown key '", name, "'; known are ", absl::StrJoin(Names(), ", ")));
  }
  return Annotate(flag->set(value), Cat("'", name, "'"));
}

std::vector<std::string> FlagList::Changed() const {
  std::vector<std::string> arguments;
  for (const Flag& flag : flags_) {
    const std::string value = flag.show();
    if (value != flag.initial) arguments.push_back(Cat("--", flag.name, "=", value));
  }
  return arguments;
}

std::vector<std::string> FlagList::Names() const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  return names;
}

std::string FlagList::Help() const {
  std::string text;
  for (const Flag& flag : flags_) {
    std::string head = Cat("  --", flag.name, flag.is_switch ? "" : "=...");
    head.resize(std::max(head.size() + 1, kHelpIndent), ' ');
    std::string help = flag.help;
    if (!flag.is_switch && !flag.initial.empty()) help += Cat(" (default: ", flag.initial, ")");
    text += Cat(head, Wrapped(help), "\n");
  }
  return text;
}

}  // namespace tandem
