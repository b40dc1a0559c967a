#include "lib/text/vocabulary.h"

#include <array>
#include <cmath>
#include <unordered_set>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(Cat("vocabulary: ", what));
}

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 60;
  if (text.size() <= kShown) return Cat("'", text, "'");
  return Cat("'", text.substr(0, kShown), "...' (", text.size(), " bytes)");
}

absl::Status ValidatePiece(const Piece& piece, size_t id) {
  if (piece.text.empty()) return Invalid(Cat("piece ", id, " is empty"));
  if (piece.text.size() > kMaxPieceBytes) {
    return Invalid(Cat("piece ", id, " ", Quoted(piece.text), ": expected at most ", kMaxPieceBytes,
                       " bytes"));
  }
  if (!IsValidUtf8(piece.text)) return Invalid(Cat("piece ", id, " is not valid UTF-8"));
  if (PieceTypeName(piece.type) == "invalid") {
    return Invalid(Cat("piece ", id, " ", Quoted(piece.text),
                       ": expected a type from 1 to 6, found ", static_cast<int>(piece.type)));
  }
  if (!std::isfinite(piece.score)) {
    return Invalid(Cat("piece ", id, " ", Quoted(piece.text), ": expected a finite score, found ",
                       piece.score));
  }
  if (piece.special && piece.type != PieceType::kUserDefined) {
    return Invalid(Cat("piece ", id, " ", Quoted(piece.text),
                       " is special: expected type user_defined, found ",
                       PieceTypeName(piece.type)));
  }
  return absl::OkStatus();
}

absl::Status ValidateId(std::string_view name, int32_t id, size_t pieces) {
  if (id == kNoPiece || (id >= 0 && static_cast<size_t>(id) < pieces)) return absl::OkStatus();
  return Invalid(Cat(name, ": expected -1 or an id below ", pieces, ", found ", id));
}

// Unknown and byte pieces: how many there must be, and where.
class TypeCensus {
 public:
  absl::Status Add(const Piece& piece, size_t id) {
    if (piece.type == PieceType::kUnknown) {
      if (unknown_ != kNoPiece) {
        return Invalid(
            Cat("expected one piece of type unknown, found ids ", unknown_, " and ", id));
      }
      unknown_ = static_cast<int32_t>(id);
    }
    if (piece.type == PieceType::kByte) {
      const int byte = ByteOfPiece(piece.text);
      if (byte < 0) {
        return Invalid(Cat("piece ", id, " of type byte: expected <0x00> to <0xFF>, found ",
                           Quoted(piece.text)));
      }
      ++byte_count_;
    }
    return absl::OkStatus();
  }

  absl::Status Finish(const Vocabulary& vocabulary) const {
    if (unknown_ == kNoPiece) return Invalid("expected one piece of type unknown, found none");
    if (vocabulary.unk_id != unknown_) {
      return Invalid(Cat("unk_id: expected ", unknown_, ", the piece of type unknown, found ",
                         vocabulary.unk_id));
    }
    const int expected = vocabulary.byte_fallback ? 256 : 0;
    if (byte_count_ != expected) {
      return Invalid(Cat("byte_fallback is ", vocabulary.byte_fallback ? "on" : "off",
                         ": expected ", expected, " byte pieces, found ", byte_count_));
    }
    return absl::OkStatus();
  }

 private:
  int32_t unknown_ = kNoPiece;
  int byte_count_ = 0;
};

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view PieceTypeName(PieceType type) {
  switch (type) {
    case PieceType::kNormal:
      return "normal";
    case PieceType::kUnknown:
      return "unknown";
    case PieceType::kControl:
      return "control";
    case PieceType::kUserDefined:
      return "user_defined";
    case PieceType::kUnused:
      return "unused";
    case PieceType::kByte:
      return "byte";
  }
  return "invalid";
}

absl::Status Vocabulary::Validate() const {
  if (pieces.empty() || pieces.size() > kMaxPieces) {
    return Invalid(Cat("expected 1 to ", kMaxPieces, " pieces, found ", pieces.size()));
  }
  std::unordered_set<std::string_view> texts;
  texts.reserve(pieces.size());
  TypeCensus census;
  for (size_t id = 0; id < pieces.size(); ++id) {
    TANDEM_RETURN_IF_ERROR(ValidatePiece(pieces[id], id));
    TANDEM_RETURN_IF_ERROR(census.Add(pieces[id], id));
    if (!texts.insert(pieces[id].text).second) {
      return Invalid(Cat("piece ", id, " ", Quoted(pieces[id].text), " is there twice"));
    }
  }
  TANDEM_RETURN_IF_ERROR(ValidateId("bos_id", bos_id, pieces.size()));
  TANDEM_RETURN_IF_ERROR(ValidateId("eos_id", eos_id, pieces.size()));
  TANDEM_RETURN_IF_ERROR(ValidateId("pad_id", pad_id, pieces.size()));
  if (!IsValidUtf8(unk_surface)) return Invalid("unk_surface is not valid UTF-8");
  return census.Finish(*this);
}

bool IsGemmaMarker(std::string_view text) {
  constexpr std::array<std::string_view, 7> kMarkers = {
      "<start_of_turn>",    "<end_of_turn>", "<start_of_image>", "<end_of_image>",
      "<image_soft_token>", "<mask>",        "[multimodal]"};
  for (std::string_view marker : kMarkers) {
    if (text == marker) return true;
  }
  constexpr std::string_view kUnused = "<unused";
  if (!text.starts_with(kUnused) || !text.ends_with('>')) return false;
  text.remove_prefix(kUnused.size());
  text.remove_suffix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string BytesOfPiece(const Vocabulary& vocabulary, int32_t id) {
  const Piece& piece = vocabulary.pieces[static_cast<size_t>(id)];
  if (piece.type == PieceType::kControl) return {};
  if (piece.type == PieceType::kByte)
    return std::string(1, static_cast<char>(ByteOfPiece(piece.text)));
  if (piece.type == PieceType::kUnknown) return vocabulary.unk_surface;
  std::string bytes;
  std::string_view text = piece.text;
  while (!text.empty()) {
    if (text.starts_with(kSpaceSymbol)) {
      bytes.push_back(' ');
      text.remove_prefix(kSpaceSymbol.size());
    } else {
      bytes.push_back(text[0]);
      text.remove_prefix(1);
    }
  }
  return bytes;
}

std::vector<std::string> TextBytes(const Vocabulary& vocabulary, size_t vocab_size) {
  std::vector<std::string> bytes(vocab_size);
  for (size_t id = 0; id < std::min(vocab_size, vocabulary.pieces.size()); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    const bool text = piece.type == PieceType::kNormal || piece.type == PieceType::kByte ||
                      (piece.type == PieceType::kUserDefined && !piece.special);
    if (text) bytes[id] = BytesOfPiece(vocabulary, static_cast<int32_t>(id));
  }
  return bytes;
}

int ByteOfPiece(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = HexDigit(text[3]);
  const int low = HexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace tandem
