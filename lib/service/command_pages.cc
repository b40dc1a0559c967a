#include "lib/service/command_pages.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

constexpr std::size_t kFlagIndent = 28;
constexpr std::size_t kColumns = 100;

// `text` in lines of kColumns, each after the first indented.
std::string Wrapped(const std::string& text, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > indent && column + 1 + word.size() > kColumns) {
      out += Cat("\n", std::string(indent, ' '));
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out.append(word.data(), word.size());
    column += word.size();
  }
  return out;
}

// "head", padded, then `text` beside it; a head that is too long has a line of its own.
std::string Row(std::string head, const std::string& text) {
  if (head.size() + 2 > kFlagIndent) {
    head += Cat("\n", std::string(kFlagIndent, ' '));
  } else {
    head.resize(kFlagIndent, ' ');
  }
  return Cat(head, Wrapped(text, kFlagIndent), "\n");
}

std::string Explanation(const Flag& flag) {
  std::string text = flag.help;
  if (!flag.choices.empty()) text += Cat(": ", absl::StrJoin(flag.choices, ", "));
  if (flag.kind != FlagKind::kSwitch && !flag.initial.empty())
    text += Cat(" (default: ", flag.initial, ")");
  return text;
}

std::string Spelling(const Flag& flag) {
  const std::string value = Placeholder(flag);
  return Cat("--", flag.name, value.empty() ? "" : Cat("=", value));
}

std::string Usage(const Command& command, const std::string& path) {
  std::string usage = path;
  if (!command.commands.empty()) usage += " COMMAND";
  if (!command.word.empty()) usage += Cat(" [", absl::AsciiStrToUpper(command.word), "]");
  if (!command.flags.flags().empty() || command.reads_config) usage += " [FLAGS]";
  return usage;
}

// The titles of the flags' sections, in order.
std::vector<std::string> Sections(const FlagList& flags) {
  std::vector<std::string> titles;
  for (const Flag& flag : flags.flags()) {
    if (std::count(titles.begin(), titles.end(), flag.section) == 0) titles.push_back(flag.section);
  }
  return titles;
}

constexpr char kConfigHelp[] = "YAML file with settings; TANDEM_CONFIG names one, too";
constexpr char kConfigNote[] =
    "Every setting has one name: --max_sequences=4 on the command line, TANDEM_MAX_SEQUENCES=4 in "
    "the environment, max_sequences: 4 in the file of --config. The command line wins over the "
    "environment, and that over the file. `tandem config show` tells where each value comes from.";

// For roff: backslashes, and characters that begin a request.
std::string Roff(const std::string& text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  if (escaped.starts_with('.') || escaped.starts_with('\'')) escaped = Cat("\\&", escaped);
  return escaped;
}

std::string RoffParagraphs(const std::string& text) {
  std::string out;
  for (const absl::string_view part : absl::StrSplit(text, "\n\n"))
    out += Cat(out.empty() ? "" : ".PP\n", Roff(std::string(part)), "\n");
  return out;
}

// "tandem-up"
std::string PageName(const std::string& path) { return absl::StrReplaceAll(path, {{" ", "-"}}); }

std::string RoffFlag(const Flag& flag) {
  std::string out = Cat(".TP\n\\fB\\-\\-", Roff(flag.name), "\\fR");
  if (const std::string value = Placeholder(flag); !value.empty())
    out += Cat("=\\fI", Roff(value), "\\fR");
  return Cat(out, "\n", Roff(Explanation(flag)), "\n");
}

}  // namespace

std::string Placeholder(const Flag& flag) {
  const std::string list = flag.kind == FlagKind::kList ? ",..." : "";
  if (!flag.choices.empty()) return Cat(absl::StrJoin(flag.choices, "|"), list);
  switch (flag.kind) {
    case FlagKind::kSwitch:
      return "";
    case FlagKind::kPath:
      return "PATH";
    case FlagKind::kInteger:
      return "N";
    case FlagKind::kReal:
      return "NUMBER";
    case FlagKind::kBytes:
      return "BYTES";
    case FlagKind::kTime:
      return "TIME";
    default:
      return Cat("TEXT", list);
  }
}

std::string HelpText(const Command& command, const std::string& path) {
  std::string text = Cat(path, ": ", command.summary, "\n\nUsage: ", Usage(command, path), "\n");
  if (!command.description.empty()) {
    for (const absl::string_view part : absl::StrSplit(command.description, "\n\n"))
      text += Cat("\n", Wrapped(std::string(part), 0), "\n");
  }
  if (!command.examples.empty()) text += "\nExamples:\n";
  for (const Command::Example& example : command.examples)
    text += Cat("  ", example.command, "\n      ", Wrapped(example.what, 6), "\n");
  if (!command.commands.empty()) text += "\nCommands:\n";
  for (const Command& sub : command.commands) text += Row(Cat("  ", sub.name), sub.summary);
  for (const std::string& title : Sections(command.flags)) {
    text += Cat("\n", title, ":\n");
    for (const Flag& flag : command.flags.flags()) {
      if (flag.section == title) text += Row(Cat("  ", Spelling(flag)), Explanation(flag));
    }
  }
  text += "\nFor every command:\n";
  if (command.reads_config) text += Row("  --config=PATH", kConfigHelp);
  text += Row("  -h, --help", "print this and end");
  text += Row("  --man", "print the manual page and end: tandem up --man | man -l -");
  if (command.reads_config) text += Cat("\n", Wrapped(kConfigNote, 0), "\n");
  return text;
}

std::string ManualPage(const Command& command, const std::string& path) {
  const std::string name = PageName(path);
  std::string page = Cat(".TH ", Roff(absl::AsciiStrToUpper(name)), " 1 \"\" \"Tandem ", kVersion,
                         "\" \"Tandem\"\n.SH NAME\n", Roff(name), " \\- ", Roff(command.summary),
                         "\n.SH SYNOPSIS\n\\fB", Roff(Usage(command, path)), "\\fR\n");
  page += ".SH DESCRIPTION\n";
  page += RoffParagraphs(command.description.empty() ? command.summary + "." : command.description);
  if (!command.commands.empty()) page += ".SH COMMANDS\n";
  for (const Command& sub : command.commands) {
    page += Cat(".TP\n\\fB", Roff(sub.name), "\\fR\n", Roff(sub.summary), "; see \\fB",
                Roff(PageName(Cat(path, " ", sub.name))), "\\fR(1)\n");
  }
  page += ".SH OPTIONS\n";
  for (const std::string& title : Sections(command.flags)) {
    page += Cat(".SS ", Roff(title), "\n");
    for (const Flag& flag : command.flags.flags()) {
      if (flag.section == title) page += RoffFlag(flag);
    }
  }
  page += ".SS For every command\n";
  if (command.reads_config)
    page += Cat(".TP\n\\fB\\-\\-config\\fR=\\fIPATH\\fR\n", Roff(kConfigHelp), "\n");
  page += ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nprint a summary of the flags and end\n";
  page += ".TP\n\\fB\\-\\-man\\fR\nprint this page and end\n";
  if (command.reads_config)
    page += Cat(".SH ENVIRONMENT AND CONFIGURATION FILE\n", Roff(kConfigNote), "\n");
  if (!command.examples.empty()) page += ".SH EXAMPLES\n";
  for (const Command::Example& example : command.examples)
    page += Cat(".TP\n\\fB", Roff(example.command), "\\fR\n", Roff(example.what), "\n");
  if (name != "tandem") page += ".SH SEE ALSO\n\\fBtandem\\fR(1)\n";
  return page;
}

}  // namespace tandem
