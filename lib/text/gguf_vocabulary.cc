#include "lib/text/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

absl::Status CheckLengths(const GgufVocabularyArrays& arrays) {
  const size_t count = arrays.tokens.size();
  if (count == 0 || count > kMaxPieces) {
    return absl::InvalidArgumentError(
        Cat("tokenizer.ggml.tokens: expected 1 to ", kMaxPieces, " strings, found ", count));
  }
  if (arrays.scores.size() != count) {
    return absl::InvalidArgumentError(Cat("tokenizer.ggml.scores: expected ", count,
                                          " values, as many as tokens, found ",
                                          arrays.scores.size()));
  }
  if (arrays.types.size() != count) {
    return absl::InvalidArgumentError(Cat("tokenizer.ggml.token_type: expected ", count,
                                          " values, as many as tokens, found ",
                                          arrays.types.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> CheckId(std::string_view key, std::optional<uint32_t> id, size_t count) {
  if (!id) return kNoPiece;
  if (*id < count) return static_cast<int32_t>(*id);
  return absl::InvalidArgumentError(
      Cat("tokenizer.ggml.", key, ": expected an id below ", count, ", found ", *id));
}

// Control pieces that the model's own files have as such; not symbols that GGUF writers turned into
// control pieces.
bool IsGenuineControl(const Vocabulary& vocabulary, int32_t id) {
  constexpr std::array<std::string_view, 5> kNames = {"<pad>", "<eos>", "<bos>", "<s>", "</s>"};
  for (std::string_view name : kNames) {
    if (vocabulary.pieces[id].text == name) return true;
  }
  return id == vocabulary.bos_id || id == vocabulary.pad_id;
}

// Some writers know no user-defined symbols and leave them normal with score 0. Where scores are
// the ranks of merges (0, -1, -2 ...) a normal piece has one of its own, so 0 belongs to the first
// merge alone, whose piece stands right before the one with -1.
class LostSymbols {
 public:
  explicit LostSymbols(absl::Span<const float> scores)
      : scores_(scores), ranked_(std::find(scores.begin(), scores.end(), -1.0f) != scores.end()) {}

  bool Contains(size_t id) const {
    if (!ranked_ || scores_[id] != 0.0f) return false;
    return id + 1 == scores_.size() || scores_[id + 1] != -1.0f;
  }

 private:
  absl::Span<const float> scores_;
  const bool ranked_;
};

std::string WithSpaceSymbols(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ') {
      out.append(kSpaceSymbol);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

absl::StatusOr<Piece> PieceOf(const GgufVocabularyArrays& arrays, const LostSymbols& lost,
                              size_t id) {
  const int32_t type = arrays.types[id];
  if (type < 1 || type > 6) {
    return absl::InvalidArgumentError(
        Cat("tokenizer.ggml.token_type[", id, "]: expected 1 to 6, found ", type));
  }
  Piece piece;
  piece.text = std::string(arrays.tokens[id]);
  piece.score = arrays.scores[id];
  piece.type = static_cast<PieceType>(type);
  if (piece.type == PieceType::kUserDefined) {
    piece.text = WithSpaceSymbols(piece.text);
  } else if (piece.type == PieceType::kNormal && lost.Contains(id)) {
    piece.type = PieceType::kUserDefined;
  }
  return piece;
}

// The unknown piece is the one typed so; writers that mark it as control give its id, or at least
// its name.
void SettleUnknown(Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (vocabulary.pieces[id].type != PieceType::kUnknown) continue;
    if (vocabulary.unk_id == kNoPiece) vocabulary.unk_id = static_cast<int32_t>(id);
    return;
  }
  for (size_t id = 0; id < vocabulary.pieces.size() && vocabulary.unk_id == kNoPiece; ++id) {
    if (vocabulary.pieces[id].text == "<unk>") vocabulary.unk_id = static_cast<int32_t>(id);
  }
  if (vocabulary.unk_id != kNoPiece)
    vocabulary.pieces[vocabulary.unk_id].type = PieceType::kUnknown;
}

}  // namespace

absl::StatusOr<Vocabulary> VocabularyFromGgufArrays(const GgufVocabularyArrays& arrays) {
  TANDEM_RETURN_IF_ERROR(CheckLengths(arrays));
  const size_t count = arrays.tokens.size();
  Vocabulary vocabulary;
  TANDEM_ASSIGN_OR_RETURN(vocabulary.bos_id, CheckId("bos_token_id", arrays.bos_id, count));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.eos_id, CheckId("eos_token_id", arrays.eos_id, count));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.pad_id, CheckId("padding_token_id", arrays.pad_id, count));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.unk_id, CheckId("unknown_token_id", arrays.unk_id, count));
  vocabulary.add_bos = arrays.add_bos;
  vocabulary.add_eos = arrays.add_eos;
  vocabulary.add_dummy_prefix = arrays.add_space_prefix;
  vocabulary.byte_fallback = false;

  vocabulary.pieces.reserve(count);
  const LostSymbols lost(arrays.scores);
  for (size_t id = 0; id < count; ++id) {
    TANDEM_ASSIGN_OR_RETURN(Piece piece, PieceOf(arrays, lost, id));
    vocabulary.pieces.push_back(std::move(piece));
    vocabulary.byte_fallback |= vocabulary.pieces[id].type == PieceType::kByte;
  }
  SettleUnknown(vocabulary);
  for (size_t id = 0; id < count; ++id) {
    Piece& piece = vocabulary.pieces[id];
    const bool turned = piece.type == PieceType::kControl &&
                        !IsGenuineControl(vocabulary, static_cast<int32_t>(id));
    const bool symbol = piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
    if (turned || (symbol && IsGemmaMarker(piece.text))) {
      piece.type = PieceType::kUserDefined;
      piece.special = true;
    }
  }
  const absl::Status valid = vocabulary.Validate();
  if (!valid.ok()) return Annotate(valid, "tokenizer.ggml");
  return vocabulary;
}

}  // namespace tandem
