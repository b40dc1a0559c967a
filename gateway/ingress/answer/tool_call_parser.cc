#include "gateway/ingress/answer/tool_call_parser.h"

#include <algorithm>
#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/request/tool_text.h"

namespace tandem {

ToolCallParser::Output ToolCallParser::Feed(std::string_view text) {
  Output out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (state_ == State::kText) {
      out.text.append(text.substr(i));
      break;
    }
    Take(text[i], out);
  }
  return out;
}

ToolCallParser::Output ToolCallParser::Finish() {
  Output out;
  if (state_ == State::kBegin) out.text = std::exchange(held_, {});
  return out;
}

ToolCallDelta& ToolCallParser::DeltaOf(Output& out) const {
  if (out.calls.empty() || out.calls.back().index != index_)
    out.calls.push_back({.index = index_, .id = "", .name = "", .arguments = ""});
  return out.calls.back();
}

void ToolCallParser::Take(char c, Output& out) {
  if (state_ == State::kArguments) return TakeArgument(c, out);
  held_.push_back(c);
  switch (state_) {
    case State::kBegin: {
      const std::vector<std::string>& beginnings = CallBeginnings();
      const auto fits = [&](const std::string& one) { return one.starts_with(held_); };
      if (std::none_of(beginnings.begin(), beginnings.end(), fits)) {
        state_ = State::kText;
        out.text.append(std::exchange(held_, {}));
      } else if (std::find(beginnings.begin(), beginnings.end(), held_) != beginnings.end()) {
        state_ = State::kBeforeName;
      }
      return;
    }
    case State::kBeforeName:
      if (!held_.ends_with("\"name\": \"")) return;
      state_ = State::kName;
      break;
    case State::kName:
      if (c != '"') return;
      held_.pop_back();
      DeltaOf(out).id = RandomId(id_prefix_);
      DeltaOf(out).name = held_;
      state_ = State::kBeforeArguments;
      break;
    case State::kBeforeArguments:
      if (!held_.ends_with("\"parameters\": ")) return;
      state_ = State::kArguments;
      break;
    case State::kAfter:
      if (c == '{') {
        ++index_;
        state_ = State::kBeforeName;
      }
      break;
    case State::kText:
    case State::kArguments:
      break;
  }
  held_.clear();
}

void ToolCallParser::TakeArgument(char c, Output& out) {
  DeltaOf(out).arguments.push_back(c);
  if (in_string_) {
    in_string_ = escaped_ || c != '"';
    escaped_ = !escaped_ && c == '\\';
    return;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if ((c == '}' || c == ']') && --depth_ == 0) state_ = State::kAfter;
}

}  // namespace tandem
