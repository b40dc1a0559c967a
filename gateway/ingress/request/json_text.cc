#include "gateway/ingress/request/json_text.h"

#include <cstddef>
#include <nlohmann/json.hpp>

namespace tandem {
namespace {

bool IsJsonSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Goes over a container's text. Never reads beyond its end, whatever stands there.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool Enter(char open) {
    if (text_.empty() || text_[0] != open) return false;
    at_ = 1;
    return true;
  }

  // The next value; "" at the container's end.
  std::string_view Value() {
    SkipSpace();
    const std::size_t begin = at_;
    int depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        SkipString();
        continue;
      }
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') {
        if (depth == 0) break;
        --depth;
      }
      if ((c == ',' || c == ':') && depth == 0) break;
      ++at_;
    }
    return TrimJson(text_.substr(begin, at_ - begin));
  }

  // Whether `separator` comes next; goes over it.
  bool Over(char separator) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != separator) return false;
    ++at_;
    return true;
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && IsJsonSpace(text_[at_])) ++at_;
  }
  void SkipString() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    at_ = at_ < text_.size() ? at_ + 1 : text_.size();
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::string_view TrimJson(std::string_view text) {
  while (!text.empty() && IsJsonSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsJsonSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view MemberText(std::string_view object, std::string_view name) {
  Scanner scanner(object);
  std::string_view found;
  if (!scanner.Enter('{')) return found;
  do {
    const std::string_view key = scanner.Value();
    if (!scanner.Over(':')) break;
    const std::string_view value = scanner.Value();
    const bool same = key.size() == name.size() + 2 && key.substr(1, name.size()) == name;
    if (same) found = value;
  } while (scanner.Over(','));
  return found;
}

std::vector<std::string_view> ElementTexts(std::string_view array) {
  Scanner scanner(array);
  std::vector<std::string_view> elements;
  if (!scanner.Enter('[')) return elements;
  do {
    const std::string_view value = scanner.Value();
    if (value.empty()) break;
    elements.push_back(value);
  } while (scanner.Over(','));
  return elements;
}

std::string DumpJson(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tandem
