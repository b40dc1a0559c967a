#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/text/tokenizer.h"

namespace tandem {

struct ChatMessage {
  std::string role;     // "system" or "developer" (index 0 only), "user", "assistant"
  std::string content;  // UTF-8
};

struct ChatTemplateOptions {
  // End with "<start_of_turn>model\n".
  bool add_generation_prompt = true;
  // End with the content of the last message, whose turn stays open; not with the one above.
  bool continue_final_message = false;
  // More are OutOfRange, found out early (EncodeAtMost).
  size_t max_ids = SIZE_MAX;
};

// Gemma's chat template, straight to token ids:
//   bos <start_of_turn>user\n{content}<end_of_turn>\n<start_of_turn>model\n{content}<end_of_turn>\n
//   ... <start_of_turn>model\n
// A system message stands, untrimmed, before the first user content with "\n\n" between; the other
// contents are trimmed. Contents are encoded with parse_special = false, so the turn markers in the
// result are exactly those of the template.
//
// InvalidArgument, naming index, role found and role expected, unless the messages are an optional
// system message followed by user and assistant in turn, user first. FailedPrecondition when the
// vocabulary is not a Gemma chat one (no bos or turn markers, or a dummy prefix).
absl::StatusOr<std::vector<int32_t>> EncodeGemmaChat(const Tokenizer& tokenizer,
                                                     absl::Span<const ChatMessage> messages,
                                                     ChatTemplateOptions options = {});

// The id that ends a turn of Gemma's: generation of a chat stops there as it does at eos. kNoPiece
// where there is none.
int32_t EndOfTurnId(const Tokenizer& tokenizer);

// The content of a message of `role` that came as a list of text parts. The template trims each
// part of a user's or assistant's message and joins them. Of a system message it takes the first
// part as it stands and would drop the rest unread: InvalidArgument for more than one there.
absl::StatusOr<std::string> JoinContentParts(std::string_view role,
                                             absl::Span<const std::string> parts);

// `text` without the Unicode white space at both ends (what the template's `trim` strips).
std::string_view TrimWhitespace(std::string_view text);

}  // namespace tandem
