#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {
namespace {

absl::Status CheckLength(const char* field, std::size_t expected, std::size_t found) {
  if (expected == found) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("Vocabulary.", field, ": expected ", expected,
                                                 " entries, one for each of texts, found ", found));
}

}  // namespace

v1::Vocabulary ToProto(const Vocabulary& vocabulary) {
  v1::Vocabulary message;
  const int count = static_cast<int>(vocabulary.pieces.size());
  message.mutable_texts()->Reserve(count);
  message.mutable_scores()->Reserve(count);
  for (const Piece& piece : vocabulary.pieces) {
    message.add_texts(piece.text);
    message.add_scores(piece.score);
    message.mutable_types()->push_back(static_cast<char>(piece.type));
    message.mutable_special()->push_back(piece.special ? '\1' : '\0');
  }
  message.set_bos_id(vocabulary.bos_id);
  message.set_eos_id(vocabulary.eos_id);
  message.set_unk_id(vocabulary.unk_id);
  message.set_pad_id(vocabulary.pad_id);
  message.set_add_bos(vocabulary.add_bos);
  message.set_add_eos(vocabulary.add_eos);
  message.set_byte_fallback(vocabulary.byte_fallback);
  message.set_add_dummy_prefix(vocabulary.add_dummy_prefix);
  message.set_remove_extra_whitespaces(vocabulary.remove_extra_whitespaces);
  message.set_unk_surface(vocabulary.unk_surface);
  return message;
}

absl::StatusOr<Vocabulary> FromProto(const v1::Vocabulary& message) {
  const std::size_t count = static_cast<std::size_t>(message.texts_size());
  TANDEM_RETURN_IF_ERROR(
      CheckLength("scores", count, static_cast<std::size_t>(message.scores_size())));
  TANDEM_RETURN_IF_ERROR(CheckLength("types", count, message.types().size()));
  TANDEM_RETURN_IF_ERROR(CheckLength("special", count, message.special().size()));
  Vocabulary vocabulary;
  vocabulary.pieces.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const int type = static_cast<unsigned char>(message.types()[i]);
    if (type < static_cast<int>(PieceType::kNormal) || type > static_cast<int>(PieceType::kByte)) {
      return absl::InvalidArgumentError(
          absl::StrCat("Vocabulary.types[", i, "]: expected 1 to 6, found ", type));
    }
    const int index = static_cast<int>(i);
    vocabulary.pieces.push_back({message.texts(index), message.scores(index),
                                 static_cast<PieceType>(type), message.special()[i] != '\0'});
  }
  vocabulary.bos_id = message.bos_id();
  vocabulary.eos_id = message.eos_id();
  vocabulary.unk_id = message.unk_id();
  vocabulary.pad_id = message.pad_id();
  vocabulary.add_bos = message.add_bos();
  vocabulary.add_eos = message.add_eos();
  vocabulary.byte_fallback = message.byte_fallback();
  vocabulary.add_dummy_prefix = message.add_dummy_prefix();
  vocabulary.remove_extra_whitespaces = message.remove_extra_whitespaces();
  vocabulary.unk_surface = message.unk_surface();
  TANDEM_RETURN_IF_ERROR(Annotate(vocabulary.Validate(), "Vocabulary"));
  return vocabulary;
}

}  // namespace tandem
