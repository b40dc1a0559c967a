#include "lib/text/detokenizer.h"

#include <utility>

#include "lib/base/status_macros.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

void AppendWithSpaces(std::string_view text, std::string& out) {
  for (size_t at = text.find(kSpaceSymbol); at != std::string_view::npos;
       at = text.find(kSpaceSymbol)) {
    out.append(text.substr(0, at)).push_back(' ');
    text.remove_prefix(at + kSpaceSymbol.size());
  }
  out.append(text);
}

}  // namespace

void PieceDecoder::Append(int32_t id, std::string& out) {
  TANDEM_CHECK(id >= 0 && static_cast<size_t>(id) < vocabulary_->pieces.size());
  const Piece& piece = vocabulary_->pieces[id];
  const size_t before = out.size();
  if (piece.type == PieceType::kByte) {
    held_.push_back(static_cast<char>(ByteOfPiece(piece.text)));
    ReleaseCharacters(/*at_end=*/false, out);
    any_text_ |= out.size() > before;
    return;
  }
  ReleaseCharacters(/*at_end=*/true, out);
  any_text_ |= out.size() > before;
  if (prefix_dropped_ || any_text_) at_start_ = false;
  prefix_dropped_ = false;
  if (piece.type == PieceType::kUnknown) {
    out.append(vocabulary_->unk_surface);
  } else if (piece.type != PieceType::kControl && !(skip_special_ && piece.special)) {
    AppendText(piece.text, out);
  }
  any_text_ |= out.size() > before;
}

// At the start, a space that normalisation may have put there is not text.
void PieceDecoder::AppendText(std::string_view text, std::string& out) {
  const bool may_drop = vocabulary_->add_dummy_prefix || vocabulary_->remove_extra_whitespaces;
  if (at_start_ && may_drop && text.starts_with(kSpaceSymbol)) {
    text.remove_prefix(kSpaceSymbol.size());
    // With remove_extra_whitespaces every leading space goes, otherwise the dummy prefix alone.
    prefix_dropped_ = !vocabulary_->remove_extra_whitespaces;
  }
  AppendWithSpaces(text, out);
}

void PieceDecoder::ReleaseCharacters(bool at_end, std::string& out) {
  std::string_view rest = held_;
  while (!rest.empty()) {
    const size_t length = Utf8CharacterLength(rest);
    if (length > 0) {
      out.append(rest.substr(0, length));
      rest.remove_prefix(length);
    } else if (!at_end && IsUtf8CharacterPrefix(rest)) {
      break;
    } else {
      out.append(kReplacementCharacter);
      rest.remove_prefix(1);
    }
  }
  held_.erase(0, held_.size() - rest.size());
}

void PieceDecoder::Flush(std::string& out) {
  ReleaseCharacters(/*at_end=*/true, out);
  *this = PieceDecoder(*vocabulary_, skip_special_);
}

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)), decoder_(tokenizer_->vocabulary()) {}

absl::StatusOr<std::string> StreamingDetokenizer::Append(absl::Span<const int32_t> ids) {
  TANDEM_RETURN_IF_ERROR(tokenizer_->ValidateIds(ids));
  std::string text;
  for (int32_t id : ids) decoder_.Append(id, text);
  return text;
}

std::string StreamingDetokenizer::Flush() {
  std::string text;
  decoder_.Flush(text);
  return text;
}

}  // namespace tandem
