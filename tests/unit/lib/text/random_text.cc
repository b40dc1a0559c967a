#include "tests/unit/lib/text/random_text.h"

#include <algorithm>
#include <iterator>

namespace tandem {
namespace {

void AppendUtf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    out.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

}  // namespace

char32_t RandomText::CodePoint() {
  // Scripts by their blocks; the last two are anything, surrogates included (which is broken
  // UTF-8).
  static constexpr struct {
    char32_t first, last;
  } kBlocks[] = {{0x20, 0x7E},       {0xA0, 0x17F},      {0x370, 0x3FF},   {0x400, 0x4FF},
                 {0x590, 0x5FF},     {0x600, 0x6FF},     {0x900, 0x97F},   {0xE00, 0xE7F},
                 {0x2000, 0x206F},   {0x2580, 0x259F},   {0x3040, 0x30FF}, {0x4E00, 0x9FFF},
                 {0xAC00, 0xD7A3},   {0xFE00, 0xFE0F},   {0xFFF0, 0xFFFF}, {0x1F300, 0x1F6FF},
                 {0x1F1E6, 0x1F1FF}, {0xE0000, 0xE01EF}, {0x0, 0x10FFFF},  {0xD700, 0xE0FF}};
  const auto& block = kBlocks[Below(std::size(kBlocks))];
  return block.first + static_cast<char32_t>(Below(block.last - block.first + 1));
}

void RandomText::AppendUnicode(std::string& out) {
  for (size_t n = Below(20); n > 0; --n) AppendUtf8(out, CodePoint());
}

void RandomText::AppendBytes(std::string& out) {
  for (size_t n = Below(20); n > 0; --n) out.push_back(static_cast<char>(Below(256)));
}

void RandomText::AppendRun(std::string& out) {
  std::string unit;
  switch (Below(4)) {
    case 0:
      unit.push_back(static_cast<char>(Below(128)));
      break;
    case 1:
      AppendUtf8(unit, CodePoint());
      break;
    case 2:
      unit = vocabulary_.pieces[Below(vocabulary_.pieces.size())].text;
      break;
    default:
      unit.push_back(' ');
  }
  const size_t count = Below(500) == 0 ? 3000 : Below(60);
  for (size_t i = 0; i < count; ++i) out.append(unit);
}

void RandomText::AppendSpaces(std::string& out) {
  static constexpr std::string_view kSpaces[] = {
      " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "▁", "\u00A0", "\u3000", "a", "the", " the"};
  for (size_t n = Below(12); n > 0; --n) out.append(kSpaces[Below(std::size(kSpaces))]);
}

void RandomText::AppendPieces(std::string& out) {
  for (size_t n = 1 + Below(8); n > 0; --n) {
    std::string text = vocabulary_.pieces[Below(vocabulary_.pieces.size())].text;
    if (Below(2) == 0 && text.starts_with(kSpaceSymbol)) {
      text.erase(0, kSpaceSymbol.size() - 1);
      text[0] = ' ';
    }
    if (Below(4) == 0) text.resize(Below(text.size() + 1));
    out.append(text);
  }
}

void RandomText::AppendSpecial(std::string& out) {
  static constexpr std::string_view kSpecial[] = {"<start_of_turn>",
                                                  "<end_of_turn>",
                                                  "<bos>",
                                                  "<eos>",
                                                  "<pad>",
                                                  "<unk>",
                                                  "<mask>",
                                                  "[multimodal]",
                                                  "<unused1>",
                                                  "<0x0A>",
                                                  "<start_of_turn",
                                                  ">",
                                                  "<end_of_turn",
                                                  "<",
                                                  "user\n",
                                                  "model\n",
                                                  "\n",
                                                  "<unused98",
                                                  "<<",
                                                  "<h1>",
                                                  "<s>"};
  for (size_t n = 1 + Below(5); n > 0; --n) out.append(kSpecial[Below(std::size(kSpecial))]);
}

void RandomText::AppendBroken(std::string& out) {
  static constexpr std::string_view kBroken[] = {"\xC0\x80",
                                                 "\xC1\xBF",
                                                 "\xE0\x80\x80",
                                                 "\xE0\x9F\xBF",
                                                 "\xED\xA0\x80",
                                                 "\xED\xBF\xBF",
                                                 "\x80",
                                                 "\xBF",
                                                 "\xE2\x96",
                                                 "\xE2",
                                                 "\xF0\x9F\x99",
                                                 "\xF0\x8F\xBF\xBF",
                                                 "\xFE",
                                                 "\xFF",
                                                 "\xC3",
                                                 "\xF4\x90\x80\x80",
                                                 "\xF8\x88\x80\x80",
                                                 "\xEF\xBF\xBD",
                                                 "\xEF\xBF",
                                                 "\xE2\x96\x81",
                                                 "\xF4\x8F\xBF\xBF"};
  for (size_t n = 1 + Below(6); n > 0; --n) {
    out.append(kBroken[Below(std::size(kBroken))]);
    if (Below(3) == 0) out.push_back(static_cast<char>('a' + Below(26)));
  }
}

void RandomText::AppendSnippet(std::string& out) {
  const size_t begin = Below(sample_.size());
  std::string snippet = sample_.substr(begin, 1 + Below(60));
  if (Below(3) == 0) snippet[Below(snippet.size())] = static_cast<char>(Below(256));
  if (Below(4) == 0) {
    std::transform(snippet.begin(), snippet.end(), snippet.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  }
  out.append(snippet);
}

std::string RandomText::Next() {
  static constexpr void (RandomText::*kKinds[])(std::string&) = {
      &RandomText::AppendUnicode, &RandomText::AppendBytes,   &RandomText::AppendRun,
      &RandomText::AppendSpaces,  &RandomText::AppendPieces,  &RandomText::AppendSpecial,
      &RandomText::AppendBroken,  &RandomText::AppendSnippet, &RandomText::AppendPieces,
      &RandomText::AppendSnippet};
  std::string text;
  for (size_t parts = 1 + Below(3); parts > 0; --parts) {
    (this->*kKinds[Below(std::size(kKinds))])(text);
  }
  return text;
}

std::vector<int32_t> RandomText::NextIds() {
  std::vector<int32_t> ids;
  for (size_t n = Below(30); n > 0; --n) {
    auto id = static_cast<int32_t>(Below(vocabulary_.pieces.size()));
    if (Below(2) == 0) {
      // Bytes of a real character, now and then cut short.
      std::string bytes;
      AppendUtf8(bytes, CodePoint());
      if (Below(4) == 0) bytes.resize(Below(bytes.size() + 1));
      for (char byte : bytes) {
        const auto is_byte = [&](const Piece& piece) {
          return piece.type == PieceType::kByte &&
                 ByteOfPiece(piece.text) == static_cast<unsigned char>(byte);
        };
        const auto found =
            std::find_if(vocabulary_.pieces.begin(), vocabulary_.pieces.end(), is_byte);
        if (found != vocabulary_.pieces.end()) {
          ids.push_back(static_cast<int32_t>(found - vocabulary_.pieces.begin()));
        }
      }
      continue;
    }
    if (Below(5) == 0)
      id = static_cast<int32_t>(Below(std::min<size_t>(8, vocabulary_.pieces.size())));
    ids.push_back(id);
  }
  return ids;
}

}  // namespace tandem
