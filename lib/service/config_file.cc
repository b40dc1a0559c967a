#include "lib/service/config_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxBytes = 1 << 20;

// Names and values of the file stand in messages, which are a line each.
std::string OneLine(std::string text) {
  for (char& c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = '?';
  }
  return text;
}

std::string_view KindOf(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return "a single value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
    default:
      return "nothing";
  }
}

// Quoted scalars are texts whatever stands in them.
bool Quoted(const YAML::Node& node) { return node.Tag() == "!"; }

// What YAML 1.1 or 1.2 takes for a truth value.
bool LooksLikeTruth(const YAML::Node& node) {
  for (const char* word : {"true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (!Quoted(node) && absl::EqualsIgnoreCase(node.Scalar(), word)) return true;
  }
  return false;
}

absl::StatusOr<std::string> ScalarText(const YAML::Node& node, FlagKind kind) {
  if (!node.IsScalar()) {
    return absl::InvalidArgumentError(
        Cat("expected ", kind == FlagKind::kList ? "a list of texts" : "a single value", ", found ",
            KindOf(node)));
  }
  const bool plain_kind =
      kind == FlagKind::kInteger || kind == FlagKind::kReal || kind == FlagKind::kSwitch;
  if (plain_kind && Quoted(node)) {
    return absl::InvalidArgumentError(Cat("expected ",
                                          kind == FlagKind::kSwitch ? "true or false" : "a number",
                                          ", found the text '", node.Scalar(), "'"));
  }
  if (!plain_kind && LooksLikeTruth(node)) {
    return absl::InvalidArgumentError(
        Cat("expected a text, found ", node.Scalar(), ", which needs quotes to be one"));
  }
  return node.Scalar();
}

absl::StatusOr<std::string> ValueText(const YAML::Node& node, FlagKind kind) {
  if (kind != FlagKind::kList || !node.IsSequence()) return ScalarText(node, kind);
  std::string list;
  for (const YAML::Node& item : node) {
    TANDEM_ASSIGN_OR_RETURN(const std::string text, ScalarText(item, kind));
    if (text.empty() || absl::StrContains(text, ','))
      return absl::InvalidArgumentError(
          Cat("expected texts without commas in the list, found '", text, "'"));
    list += Cat(list.empty() ? "" : ",", text);
  }
  if (list.empty())
    return absl::InvalidArgumentError("expected a list of texts, found an empty one");
  return list;
}

// Takes a document's events for nothing.
class NoEvents final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// YAML::LoadAll never ends on a document that the parser cannot get past, as one that begins with a
// comma: two are enough to know.
bool HasMoreThanOneDocument(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  NoEvents events;
  return parser.HandleNextDocument(events) && parser.HandleNextDocument(events);
}

// YAML has none of the control characters but these (5.1), and yaml-cpp takes one of the others for
// the end of the file: settings behind it would be left out in silence.
absl::Status CheckCharacters(std::string_view text, const std::string& name) {
  int line = 1;
  for (const char c : text) {
    if (c == '\n') ++line;
    if (!absl::ascii_iscntrl(static_cast<unsigned char>(c)) || c == '\n' || c == '\r' || c == '\t')
      continue;
    return absl::InvalidArgumentError(
        Cat(name, ":", line, ": expected UTF-8 text, found a control character"));
  }
  return absl::OkStatus();
}

class Reader {
 public:
  Reader(std::string name, FlagList* known) : name_(std::move(name)), known_(known) {}

  absl::StatusOr<ConfigFile> Read(std::string_view text) {
    try {
      const std::string yaml(text);
      if (HasMoreThanOneDocument(yaml))
        return Bad("", "expected one document, found more behind it");
      const YAML::Node root = YAML::Load(yaml);
      if (root.IsNull()) return std::move(file_);
      if (!root.IsMap())
        return Bad("", Cat("expected a mapping with the names of settings, found ", KindOf(root)));
      for (const auto& entry : root) ReadEntry(entry.first, entry.second);
    } catch (const YAML::Exception& e) {
      return Bad(Line(e.mark), Cat("expected YAML: ", e.msg));
    }
    return std::move(file_);
  }

 private:
  static std::string Line(const YAML::Mark& mark) {
    return mark.is_null() ? "" : Cat(":", mark.line + 1);
  }
  absl::Status Bad(const std::string& line, const std::string& what) const {
    return absl::InvalidArgumentError(OneLine(Cat(name_, line, ": ", what)));
  }

  void ReadEntry(const YAML::Node& key, const YAML::Node& value) {
    const std::string source = Cat(name_, Line(key.Mark()));
    const absl::Status status = AddEntry(key, value, source);
    if (!status.ok()) file_.problems.push_back(OneLine(std::string(status.message())));
  }

  absl::Status AddEntry(const YAML::Node& key, const YAML::Node& value, const std::string& source) {
    if (!key.IsScalar())
      return absl::InvalidArgumentError(
          Cat(source, ": expected the name of a setting, found ", KindOf(key)));
    const std::string& name = key.Scalar();
    const Flag* flag = known_->Find(name);
    if (flag != nullptr && flag->scope != FlagScope::kSetting) {
      return absl::InvalidArgumentError(Cat(
          source, ": '", name, "' is no setting of the whole cluster; it is given as --", name));
    }
    // For its message.
    if (flag == nullptr) return known_->Set(name, "", source);
    if (!seen_.insert(name).second)
      return absl::InvalidArgumentError(Cat(source, ": '", name, "' stands here a second time"));
    const std::string where = Cat(source, ": '", name, "'");
    absl::StatusOr<std::string> text = ValueText(value, flag->kind);
    if (!text.ok()) return Annotate(text.status(), where);
    TANDEM_RETURN_IF_ERROR(known_->Set(name, *text, where));
    file_.entries.push_back({name, *std::move(text), source});
    return absl::OkStatus();
  }

  const std::string name_;
  FlagList* const known_;
  std::set<std::string> seen_;
  ConfigFile file_;
};

}  // namespace

absl::StatusOr<ConfigFile> ParseConfigFile(std::string_view text, const std::string& name,
                                           FlagList* known) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        Cat(name, ": expected at most ", kMaxBytes, " bytes, found more"));
  }
  TANDEM_RETURN_IF_ERROR(CheckCharacters(text, name));
  return Reader(name, known).Read(text);
}

absl::StatusOr<ConfigFile> ReadConfigFile(const std::string& path, FlagList* known) {
  std::error_code error;
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  const bool is_folder = std::filesystem::is_directory(path, error);
  std::string text(kMaxBytes + 1, '\0');
  if (in && !is_folder) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (is_folder || in.bad() || !in.is_open()) {
    if (is_folder) errno = EISDIR;
    return absl::NotFoundError(
        Cat("'", path, "' cannot be read: ", std::strerror(errno != 0 ? errno : EIO)));
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  return ParseConfigFile(text, path, known);
}

}  // namespace tandem
