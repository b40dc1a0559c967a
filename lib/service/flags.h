#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/base/enum_names.h"

namespace tandem {

// What a flag's text means: for help, completion and the schema of configuration files.
enum class FlagKind : std::uint8_t {
  kText,
  kPath,
  // Texts with commas between them.
  kList,
  kInteger,
  kReal,
  // A whole number, or one with KiB, MiB, GiB or TiB.
  kBytes,
  kTime,
  kSwitch,
};

// Where a flag may be given, besides the command line.
enum class FlagScope : std::uint8_t {
  // In the configuration file, which all processes read, and in the environment.
  kSetting,
  // In the environment: it says what one process of several is.
  kProcess,
  kCommandLine,
};

struct Flag {
  std::string name;
  std::string help;
  FlagKind kind = FlagKind::kText;
  std::function<absl::Status(std::string_view)> set;
  std::function<std::string()> show;
  // Of numbers.
  double least = 0;
  double most = 0;
  // The only texts it takes (each of a list's); empty: any.
  std::vector<std::string> choices = {};
  std::string section = {};
  FlagScope scope = FlagScope::kSetting;
  std::string initial = {};
  // Where the value is from ("--queue", "TANDEM_QUEUE", "tandem.yaml:3"); empty: it is the default.
  std::string source = {};

  // "TANDEM_MAX_SEQUENCES"; empty where the environment does not count.
  std::string Variable() const;
};

// The settings of a program: each is a line of this list and a field of a struct of the caller's,
// and everything else follows from the line: the command line, the environment, keys of the
// configuration file and their schema, --help, manual pages, completion, and handing settings on to
// another program. Not thread-safe; the fields must outlive the list. Texts and names are literals
// or copied.
class FlagList {
 public:
  // What is added from here on belongs under this title of the help.
  void Section(std::string title, FlagScope scope = FlagScope::kSetting);

  void Text(std::string name, std::string* field, std::string help);
  // A file or folder.
  void Path(std::string name, std::string* field, std::string help);
  // Texts with commas between them.
  void Texts(std::string name, std::vector<std::string>* field, std::string help);
  // A whole number in [least, most].
  void Number(std::string name, std::int32_t* field, std::int32_t least, std::int32_t most,
              std::string help);
  void Number(std::string name, std::uint64_t* field, std::uint64_t least, std::uint64_t most,
              std::string help);
  // A number of bytes in [least, most]: "1073741824", "1GiB".
  void Bytes(std::string name, std::uint64_t* field, std::uint64_t least, std::uint64_t most,
             std::string help);
  void Real(std::string name, double* field, double least, double most, std::string help);
  // "500ms", "3s", "5m"; more than nothing.
  void Time(std::string name, absl::Duration* field, std::string help);
  // --name, --name=true, --name=false.
  void Switch(std::string name, bool* field, std::string help);
  // One of the names of an enum.
  template <typename Enum>
  void Choice(std::string name, Enum* field, std::string help) {
    Flag flag{std::move(name), std::move(help), FlagKind::kText,
              [field](std::string_view text) -> absl::Status {
                TANDEM_ASSIGN_OR_RETURN(*field, ParseEnum<Enum>("", text));
                return absl::OkStatus();
              },
              [field] { return std::string(NameOf(*field)); }};
    AddChoices<Enum>(std::move(flag));
  }
  // Names of an enum with commas between them, in order.
  template <typename Enum>
  void Choices(std::string name, std::vector<Enum>* field, std::string help) {
    Flag flag{std::move(name), std::move(help), FlagKind::kList,
              [field](std::string_view text) -> absl::Status {
                std::vector<Enum> values;
                for (const std::string& part : SplitAtCommas(text)) {
                  TANDEM_ASSIGN_OR_RETURN(const Enum value, ParseEnum<Enum>("", part));
                  values.push_back(value);
                }
                *field = std::move(values);
                return absl::OkStatus();
              },
              [field] {
                std::string text;
                for (const Enum value : *field) text += Cat(text.empty() ? "" : ",", NameOf(value));
                return text;
              }};
    AddChoices<Enum>(std::move(flag));
  }
  // A list that is anything else: `set` reads a text (its error says "expected ..., found ...") and
  // replaces what was there, `show` gives the default for --help.
  void Custom(std::string name, std::function<absl::Status(std::string_view)> set,
              std::function<std::string()> show, std::string help);

  // Sets one flag from a text; `source` says where the text is from, for the errors and for
  // `config show`. INVALID_ARGUMENT "source: expected ..., found ..."; NOT_FOUND names the nearest
  // flag.
  absl::Status Set(std::string_view name, std::string_view text, std::string source);
  // Sets what environment variables say; empty ones do not count.
  absl::Status ReadEnvironment();

  // "--name=value" for every setting that is not what it was when it was added: for another program
  // with the same list.
  std::vector<std::string> Changed() const;
  const std::vector<Flag>& flags() const { return flags_; }
  // Null: there is none.
  const Flag* Find(std::string_view name) const;
  // The flag whose name is most like this one, where one is; else empty.
  std::string Nearest(std::string_view name) const;

 private:
  template <typename Enum>
  void AddChoices(Flag flag) {
    for (const auto& entry : kEnumNames<Enum>) flag.choices.emplace_back(entry.name);
    Add(std::move(flag));
  }
  static std::vector<std::string> SplitAtCommas(std::string_view text);
  void Add(Flag flag);

  std::vector<Flag> flags_;
  std::string section_ = "Flags";
  FlagScope scope_ = FlagScope::kSetting;
};

// The one of `names` that a person who typed `text` may have meant; empty: none is near.
std::string NearestName(std::string_view text, const std::vector<std::string>& names);

}  // namespace tandem
