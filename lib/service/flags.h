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

// The settings of a program: each is a line of this list and a field of a struct of the caller's,
// and everything else follows from the line: reading the command line, keys of a configuration
// file, --help, and handing settings on to another program. Not thread-safe; the fields must
// outlive the list. Texts and names are literals or copied.
class FlagList {
 public:
  void Text(std::string name, std::string* field, std::string help);
  // Texts with commas between them.
  void Texts(std::string name, std::vector<std::string>* field, std::string help);
  // A whole number in [least, most].
  void Number(std::string name, std::int32_t* field, std::int32_t least, std::int32_t most,
              std::string help);
  void Number(std::string name, std::uint64_t* field, std::uint64_t least, std::uint64_t most,
              std::string help);
  void Real(std::string name, double* field, double least, double most, std::string help);
  // "500ms", "3s", "5m"; more than nothing.
  void Time(std::string name, absl::Duration* field, std::string help);
  // --name, --name=true, --name=false.
  void Switch(std::string name, bool* field, std::string help);
  // One of the names of an enum.
  template <typename Enum>
  void Choice(std::string name, Enum* field, std::string help) {
    Add({std::move(name), help + ": " + NamesOf<Enum>(), false,
         [field](std::string_view text) -> absl::Status {
           TANDEM_ASSIGN_OR_RETURN(*field, ParseEnum<Enum>("", text));
           return absl::OkStatus();
         },
         [field] { return std::string(NameOf(*field)); }});
  }
  // Names of an enum with commas between them, in order.
  template <typename Enum>
  void Choices(std::string name, std::vector<Enum>* field, std::string help) {
    Add({std::move(name), help + ": " + NamesOf<Enum>(), false,
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
         }});
  }
  // Anything else: `set` reads a text (its error says "expected ..., found ..."), `show` gives the
  // default for --help.
  void Custom(std::string name, std::function<absl::Status(std::string_view)> set,
              std::function<std::string()> show, std::string help);

  // Reads --name=value, --name value and --name (switches); gives the other words. After an error
  // some fields may have been set. INVALID_ARGUMENT names the flag.
  absl::StatusOr<std::vector<std::string>> Parse(const std::vector<std::string>& arguments);
  // One setting from elsewhere, e.g. a configuration file. NOT_FOUND lists the known names.
  absl::Status Configure(const std::string& name, std::string_view value);

  // "--name=value" for every setting that is not what it was when it was added: for another program
  // with the same list.
  std::vector<std::string> Changed() const;
  std::vector<std::string> Names() const;
  // A line or two for each flag.
  std::string Help() const;

 private:
  struct Flag {
    std::string name;
    std::string help;
    bool is_switch = false;
    std::function<absl::Status(std::string_view)> set;
    std::function<std::string()> show;
    std::string initial = {};
  };
  static std::vector<std::string> SplitAtCommas(std::string_view text);
  void Add(Flag flag);
  Flag* Find(std::string_view name);

  std::vector<Flag> flags_;
};

}  // namespace tandem
