#include "lib/text/chat_template.h"

#include <algorithm>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

constexpr std::string_view kStartOfTurn = "<start_of_turn>";
constexpr std::string_view kEndOfTurn = "<end_of_turn>";

bool IsSystem(std::string_view role) { return role == "system" || role == "developer"; }

// Unicode's White_Space plus the separators 0x1C to 0x1F: what Python's str.strip(), and so the
// template's `trim`, takes away.
bool IsWhitespace(std::string_view character) {
  if (character.size() == 1) {
    const char c = character[0];
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
  }
  constexpr std::string_view kWide[] = {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2001",
                                        "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
                                        "\u2007", "\u2008", "\u2009", "\u200A", "\u2028",
                                        "\u2029", "\u202F", "\u205F", "\u3000"};
  for (std::string_view space : kWide) {
    if (character == space) return true;
  }
  return false;
}

// The last character of `text`, or its last byte where that is none.
std::string_view LastCharacter(std::string_view text) {
  for (size_t length = 1; length <= 4 && length <= text.size(); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if (Utf8CharacterLength(tail) == length) return tail;
  }
  return text.substr(text.size() - 1);
}

absl::Status CheckRoles(absl::Span<const ChatMessage> messages) {
  if (messages.empty())
    return absl::InvalidArgumentError("messages: expected at least one, found none");
  const size_t first = IsSystem(messages[0].role) ? 1 : 0;
  if (first == messages.size()) {
    return absl::InvalidArgumentError(Cat("messages[1]: expected role 'user' after the '",
                                          messages[0].role, "' message, found the end"));
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string_view expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role == expected) continue;
    return absl::InvalidArgumentError(
        Cat("messages[", i, "]: expected role '", expected, "', found '", messages[i].role,
            "' (an optional system message, then user and assistant in turn, user first)"));
  }
  return absl::OkStatus();
}

struct Markers {
  int32_t bos, start_of_turn, end_of_turn;
};

absl::StatusOr<Markers> FindMarkers(const Tokenizer& tokenizer) {
  const Markers markers = {tokenizer.bos_id(), tokenizer.IdOf(kStartOfTurn),
                           tokenizer.IdOf(kEndOfTurn)};
  const auto missing = [](std::string_view what) {
    return absl::FailedPreconditionError(Cat("chat template: the vocabulary has no ", what));
  };
  if (markers.bos == kNoPiece) return missing("bos");
  if (markers.start_of_turn == kNoPiece) return missing(kStartOfTurn);
  if (markers.end_of_turn == kNoPiece) return missing(kEndOfTurn);
  // Turns are encoded one by one: that equals the whole text only where nothing is added or removed
  // at the ends.
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  if (vocabulary.add_dummy_prefix || vocabulary.remove_extra_whitespaces) {
    return absl::FailedPreconditionError(
        "chat template: expected a vocabulary without add_dummy_prefix and "
        "remove_extra_whitespaces");
  }
  for (const int32_t id : {markers.start_of_turn, markers.end_of_turn}) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.special || piece.type == PieceType::kControl) continue;
    return absl::FailedPreconditionError(Cat("chat template: expected ", piece.text,
                                             " to be special, found an ordinary piece of type ",
                                             PieceTypeName(piece.type)));
  }
  return markers;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> EncodeGemmaChat(const Tokenizer& tokenizer,
                                                     absl::Span<const ChatMessage> messages,
                                                     ChatTemplateOptions options) {
  TANDEM_ASSIGN_OR_RETURN(const Markers markers, FindMarkers(tokenizer));
  TANDEM_RETURN_IF_ERROR(CheckRoles(messages));
  std::vector<int32_t> ids = {markers.bos};
  const auto append = [&](std::string_view text) -> absl::Status {
    const size_t left = options.max_ids - std::min(options.max_ids, ids.size());
    TANDEM_ASSIGN_OR_RETURN(
        const std::vector<int32_t> more,
        tokenizer.EncodeAtMost(text, left, {.add_bos = false, .parse_special = false}));
    ids.insert(ids.end(), more.begin(), more.end());
    return absl::OkStatus();
  };
  std::string prefix;
  if (IsSystem(messages[0].role)) {
    prefix = Cat(messages[0].content, "\n\n");
    messages.remove_prefix(1);
  }
  for (const ChatMessage& message : messages) {
    const std::string_view role = message.role == "assistant" ? "model" : "user";
    ids.push_back(markers.start_of_turn);
    TANDEM_RETURN_IF_ERROR(
        append(Cat(role, "\n", std::exchange(prefix, {}), TrimWhitespace(message.content))));
    if (options.continue_final_message && &message == &messages.back()) break;
    ids.push_back(markers.end_of_turn);
    TANDEM_RETURN_IF_ERROR(append("\n"));
  }
  if (options.add_generation_prompt && !options.continue_final_message) {
    ids.push_back(markers.start_of_turn);
    TANDEM_RETURN_IF_ERROR(append("model\n"));
  }
  if (ids.size() > options.max_ids) {
    return absl::OutOfRangeError(
        Cat("expected at most ", options.max_ids, " tokens, found ", ids.size()));
  }
  return ids;
}

int32_t EndOfTurnId(const Tokenizer& tokenizer) { return tokenizer.IdOf(kEndOfTurn); }

absl::StatusOr<std::string> JoinContentParts(std::string_view role,
                                             absl::Span<const std::string> parts) {
  if (IsSystem(role)) {
    if (parts.size() == 1) return parts[0];
    return absl::InvalidArgumentError(Cat("expected one text part in a ", role, " message, found ",
                                          parts.size(),
                                          ": the model's template reads the first one only"));
  }
  std::string joined;
  for (const std::string& part : parts) joined.append(TrimWhitespace(part));
  return joined;
}

std::string_view TrimWhitespace(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    if (length == 0 || !IsWhitespace(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    const std::string_view last = LastCharacter(text);
    if (!IsWhitespace(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

}  // namespace tandem
