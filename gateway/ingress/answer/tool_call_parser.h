#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_format.h"

namespace tandem {

// Finds the calls in an answer while it comes. The answer keeps AnswerGrammar
// (request/answer_grammar.h), cut off anywhere perhaps. What can still become a call is held back;
// arguments are handed on as they come.
class ToolCallParser {
 public:
  // Every call gets an id: the prefix and random letters.
  explicit ToolCallParser(std::string id_prefix) : id_prefix_(std::move(id_prefix)) {}

  struct Output {
    std::string text;
    // At most one for each call.
    std::vector<ToolCallDelta> calls;
  };
  Output Feed(std::string_view text);
  // The end: what was held back is text.
  Output Finish();
  // Nobody knows yet whether it is text.
  bool undecided() const { return state_ == State::kBegin; }
  // The answer is calls and nothing else.
  bool called() const { return state_ > State::kText; }
  // So it is, and the last call has come to its end.
  bool complete() const { return state_ == State::kAfter; }

 private:
  enum class State : std::uint8_t {
    kBegin,
    kText,
    kBeforeName,
    kName,
    kBeforeArguments,
    kArguments,
    kAfter,
  };
  void Take(char c, Output& out);
  void TakeArgument(char c, Output& out);
  ToolCallDelta& DeltaOf(Output& out) const;

  const std::string id_prefix_;
  State state_ = State::kBegin;
  // What the present state has read.
  std::string held_;
  int index_ = 0;
  // Inside the arguments.
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace tandem
