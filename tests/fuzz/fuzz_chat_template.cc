// Turns of a chat as clients send them: any roles and texts give an error or ids in which every
// turn marker is the template's own, so that nobody can speak as somebody else.
//
// The input is cut at zero bytes: role, text, role, text, ...
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/text/chat_template.h"
#include "lib/text/tokenizer.h"

namespace {

// Bytes, a few letters, and the markers.
tandem::Vocabulary Small() {
  tandem::Vocabulary vocabulary;
  const auto add = [&](const std::string& text, tandem::PieceType type, bool special = false) {
    tandem::Piece piece;
    piece.text = text;
    piece.type = type;
    piece.special = special;
    vocabulary.pieces.push_back(std::move(piece));
    return static_cast<std::int32_t>(vocabulary.pieces.size()) - 1;
  };
  using tandem::PieceType;
  vocabulary.pad_id = add("<pad>", PieceType::kControl);
  vocabulary.eos_id = add("<eos>", PieceType::kControl);
  vocabulary.bos_id = add("<bos>", PieceType::kControl);
  vocabulary.unk_id = add("<unk>", PieceType::kUnknown);
  add("<start_of_turn>", PieceType::kUserDefined, true);
  add("<end_of_turn>", PieceType::kUserDefined, true);
  add("\n", PieceType::kUserDefined);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", static_cast<unsigned>(byte));
    add(text, PieceType::kByte);
  }
  for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c), PieceType::kNormal);
  for (const char* word : {"user", "model", "\xE2\x96\x81"}) add(word, PieceType::kNormal);
  return vocabulary;
}

const tandem::Tokenizer& Gemma() {
  static const auto tokenizer = [] {
    auto made = tandem::Tokenizer::Create(Small());
    TANDEM_CHECK(made.ok());
    return *std::move(made);
  }();
  return *tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] == 0) {
      parts.emplace_back();
    } else {
      parts.back().push_back(static_cast<char>(data[i]));
    }
  }
  if (parts.size() % 2 != 0) parts.emplace_back();
  std::vector<tandem::ChatMessage> messages;
  for (std::size_t i = 0; i < parts.size(); i += 2) messages.push_back({parts[i], parts[i + 1]});
  const auto ids = tandem::EncodeGemmaChat(Gemma(), messages);
  tandem::TrimWhitespace(parts.back());
  tandem::JoinContentParts(parts.front(), parts).status().IgnoreError();
  if (!ids.ok()) {
    TANDEM_CHECK(!ids.status().message().empty());
    return 0;
  }
  TANDEM_CHECK(Gemma().ValidateIds(*ids).ok());
  const auto count = [&](std::string_view piece) {
    return std::count(ids->begin(), ids->end(), Gemma().IdOf(piece));
  };
  // One turn for each user and each assistant, and the open one of the model at the end.
  const bool has_system = messages[0].role == "system" || messages[0].role == "developer";
  const auto turns = static_cast<std::ptrdiff_t>(messages.size()) - (has_system ? 1 : 0);
  TANDEM_CHECK(count("<end_of_turn>") == turns);
  TANDEM_CHECK(count("<start_of_turn>") == turns + 1);
  TANDEM_CHECK(count("<bos>") == 1 && ids->front() == Gemma().IdOf("<bos>"));
  // Shorter bounds are found out, the same bound is enough.
  tandem::ChatTemplateOptions options;
  options.max_ids = ids->size();
  const auto bounded = tandem::EncodeGemmaChat(Gemma(), messages, options);
  TANDEM_CHECK(bounded.ok() && *bounded == *ids);
  options.max_ids = ids->size() - 1;
  TANDEM_CHECK(!tandem::EncodeGemmaChat(Gemma(), messages, options).ok());
  return 0;
}
