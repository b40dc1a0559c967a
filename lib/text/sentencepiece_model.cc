#include "lib/text/sentencepiece_model.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// One field of a protobuf message, in wire format.
struct WireField {
  enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  uint32_t number = 0;
  Type type = kVarint;
  uint64_t value = 0;      // of kVarint; the bits of kFixed64 and kFixed32
  std::string_view bytes;  // of kBytes
  size_t offset = 0;       // of the field in the file, for messages

  float AsFloat() const {
    const auto bits = static_cast<uint32_t>(value);
    float number_value;
    std::memcpy(&number_value, &bits, sizeof(number_value));
    return number_value;
  }
};

// Walks over the fields of a message. Every read is checked against the message's end; groups (an
// obsolete wire type) are refused. The bytes must outlive the reader and the fields it hands out.
class WireReader {
 public:
  // `base`: where `message` begins in the file, for error messages.
  explicit WireReader(std::string_view message, size_t base = 0) : message_(message), base_(base) {}

  bool done() const { return at_ == message_.size(); }

  // The next field. Not to be called when done(). InvalidArgument, naming the offset, for broken
  // bytes.
  absl::StatusOr<WireField> Next();

 private:
  absl::StatusOr<uint64_t> Varint();
  absl::StatusOr<std::string_view> Take(uint64_t count);
  absl::Status Broken(std::string_view what) const {
    return absl::InvalidArgumentError(Cat("byte ", base_ + at_, ": ", what));
  }

  std::string_view message_;
  size_t base_;
  size_t at_ = 0;
};

absl::StatusOr<uint64_t> WireReader::Varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (done()) return Broken("expected the rest of a varint, found the end of the message");
    const auto byte = static_cast<unsigned char>(message_[at_++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  return Broken("expected a varint of at most 10 bytes, found a longer one");
}

absl::StatusOr<std::string_view> WireReader::Take(uint64_t count) {
  const size_t left = message_.size() - at_;
  if (count > left) {
    return Broken(
        Cat("expected ", count, " bytes, found ", left, " before the end of the message"));
  }
  const std::string_view taken = message_.substr(at_, count);
  at_ += count;
  return taken;
}

absl::StatusOr<WireField> WireReader::Next() {
  WireField field;
  field.offset = base_ + at_;
  TANDEM_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
  if (tag >> 3 == 0 || tag > UINT32_MAX) return Broken(Cat("expected a field tag, found ", tag));
  field.number = static_cast<uint32_t>(tag >> 3);
  field.type = static_cast<WireField::Type>(tag & 7);
  switch (field.type) {
    case WireField::kVarint: {
      TANDEM_ASSIGN_OR_RETURN(field.value, Varint());
      return field;
    }
    case WireField::kBytes: {
      TANDEM_ASSIGN_OR_RETURN(const uint64_t count, Varint());
      TANDEM_ASSIGN_OR_RETURN(field.bytes, Take(count));
      return field;
    }
    case WireField::kFixed32:
    case WireField::kFixed64: {
      TANDEM_ASSIGN_OR_RETURN(field.bytes, Take(field.type == WireField::kFixed32 ? 4 : 8));
      std::memcpy(&field.value, field.bytes.data(),
                  field.bytes.size());  // little-endian, as this machine is
      return field;
    }
  }
  return Broken(Cat("expected wire type 0, 1, 2 or 5, found ", tag & 7));
}

// Field numbers of sentencepiece_model.proto.
namespace model_field {
enum { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3, kDenormalizerSpec = 5 };
}
namespace piece_field {
enum { kText = 1, kScore = 2, kType = 3 };
}
namespace trainer_field {
enum {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kUnkSurface = 44,
  kBosPiece = 46,
  kEosPiece = 47,
  kPadPiece = 48
};
}
namespace normalizer_field {
enum { kCharsmap = 2, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4, kEscapeWhitespaces = 5 };
}

constexpr uint64_t kModelTypeBpe = 2;

// What the file says and Vocabulary does not keep. The values are the format's defaults.
struct Specs {
  uint64_t model_type = 1;  // unigram
  bool whitespace_as_suffix = false;
  bool byte_fallback = false;
  bool charsmap = false;
  bool denormalizer_charsmap = false;
  bool escape_whitespaces = true;
  std::string_view bos_piece = "<s>";
  std::string_view eos_piece = "</s>";
  std::string_view pad_piece = "<pad>";
};

absl::Status ExpectType(const WireField& field, WireField::Type type, std::string_view name) {
  if (field.type == type) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("byte ", field.offset, ": ", name, ": expected wire type ",
                                        static_cast<int>(type), ", found ",
                                        static_cast<int>(field.type)));
}

// Calls `visit(field)` for every field of the message that `bytes`, at `base` in the file, are.
template <typename Visit>
absl::Status ForEachField(std::string_view bytes, size_t base, Visit visit) {
  for (WireReader reader(bytes, base); !reader.done();) {
    TANDEM_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    TANDEM_RETURN_IF_ERROR(visit(field));
  }
  return absl::OkStatus();
}

absl::Status ReadPiece(const WireField& field, Piece& piece) {
  switch (field.number) {
    case piece_field::kText:
      TANDEM_RETURN_IF_ERROR(ExpectType(field, WireField::kBytes, "piece"));
      piece.text = std::string(field.bytes);
      return absl::OkStatus();
    case piece_field::kScore:
      TANDEM_RETURN_IF_ERROR(ExpectType(field, WireField::kFixed32, "score"));
      piece.score = field.AsFloat();
      return absl::OkStatus();
    case piece_field::kType:
      TANDEM_RETURN_IF_ERROR(ExpectType(field, WireField::kVarint, "type"));
      if (field.value < 1 || field.value > 6) {
        return absl::InvalidArgumentError(
            Cat("byte ", field.offset, ": type: expected 1 to 6, found ", field.value));
      }
      piece.type = static_cast<PieceType>(field.value);
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status ReadTrainerSpec(const WireField& field, Specs& specs, Vocabulary& vocabulary) {
  const auto flag = [&field](bool& out, std::string_view name) {
    out = field.value != 0;
    return ExpectType(field, WireField::kVarint, name);
  };
  const auto text = [&field](std::string_view& out, std::string_view name) {
    out = field.bytes;
    return ExpectType(field, WireField::kBytes, name);
  };
  switch (field.number) {
    case trainer_field::kModelType:
      specs.model_type = field.value;
      return ExpectType(field, WireField::kVarint, "model_type");
    case trainer_field::kWhitespaceAsSuffix:
      return flag(specs.whitespace_as_suffix, "treat_whitespace_as_suffix");
    case trainer_field::kByteFallback:
      return flag(specs.byte_fallback, "byte_fallback");
    case trainer_field::kUnkSurface:
      vocabulary.unk_surface = std::string(field.bytes);
      return ExpectType(field, WireField::kBytes, "unk_surface");
    case trainer_field::kBosPiece:
      return text(specs.bos_piece, "bos_piece");
    case trainer_field::kEosPiece:
      return text(specs.eos_piece, "eos_piece");
    case trainer_field::kPadPiece:
      return text(specs.pad_piece, "pad_piece");
  }
  return absl::OkStatus();
}

absl::Status ReadNormalizerSpec(const WireField& field, Specs& specs, Vocabulary& vocabulary) {
  const auto flag = [&field](bool& out, std::string_view name) {
    out = field.value != 0;
    return ExpectType(field, WireField::kVarint, name);
  };
  switch (field.number) {
    case normalizer_field::kCharsmap:
      specs.charsmap = !field.bytes.empty();
      return ExpectType(field, WireField::kBytes, "precompiled_charsmap");
    case normalizer_field::kAddDummyPrefix:
      return flag(vocabulary.add_dummy_prefix, "add_dummy_prefix");
    case normalizer_field::kRemoveExtraWhitespaces:
      return flag(vocabulary.remove_extra_whitespaces, "remove_extra_whitespaces");
    case normalizer_field::kEscapeWhitespaces:
      return flag(specs.escape_whitespaces, "escape_whitespaces");
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const WireField& field, Specs& specs, Vocabulary& vocabulary) {
  if (field.number > model_field::kDenormalizerSpec || field.number == 4) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(ExpectType(field, WireField::kBytes, Cat("field ", field.number)));
  // The tag and the length of the field come before its bytes; for messages the field's own offset
  // is near enough.
  const size_t base = field.offset;
  switch (field.number) {
    case model_field::kPieces:
      if (vocabulary.pieces.size() == kMaxPieces) {
        return absl::InvalidArgumentError(
            Cat("expected at most ", kMaxPieces, " pieces, found more"));
      }
      vocabulary.pieces.emplace_back();
      return ForEachField(field.bytes, base, [&](const WireField& f) {
        return ReadPiece(f, vocabulary.pieces.back());
      });
    case model_field::kTrainerSpec:
      return ForEachField(field.bytes, base, [&](const WireField& f) {
        return ReadTrainerSpec(f, specs, vocabulary);
      });
    case model_field::kNormalizerSpec:
      return ForEachField(field.bytes, base, [&](const WireField& f) {
        return ReadNormalizerSpec(f, specs, vocabulary);
      });
    case model_field::kDenormalizerSpec:
      return ForEachField(field.bytes, base, [&](const WireField& f) {
        if (f.number == normalizer_field::kCharsmap) specs.denormalizer_charsmap = !f.bytes.empty();
        return absl::OkStatus();
      });
  }
  return absl::OkStatus();
}

absl::Status CheckSupported(const Specs& specs) {
  const auto refuse = [](std::string_view what) {
    return absl::UnimplementedError(Cat("tokenizer.model: ", what));
  };
  if (specs.model_type != kModelTypeBpe) {
    return refuse(Cat("expected model_type 2 (BPE), found ", specs.model_type));
  }
  if (specs.charsmap || specs.denormalizer_charsmap) {
    return refuse("expected identity normalisation, found a precompiled_charsmap");
  }
  if (!specs.escape_whitespaces) return refuse("expected escape_whitespaces, found it off");
  if (specs.whitespace_as_suffix)
    return refuse("expected treat_whitespace_as_suffix off, found it on");
  return absl::OkStatus();
}

int32_t FindControl(const Vocabulary& vocabulary, std::string_view text) {
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.type == PieceType::kControl && piece.text == text) return static_cast<int32_t>(id);
  }
  return kNoPiece;
}

}  // namespace

absl::StatusOr<Vocabulary> ReadSentencePieceModel(std::string_view bytes) {
  Vocabulary vocabulary;
  vocabulary.add_dummy_prefix = true;  // the format's defaults
  vocabulary.remove_extra_whitespaces = true;
  Specs specs;
  const absl::Status read = ForEachField(
      bytes, 0, [&](const WireField& field) { return ReadModel(field, specs, vocabulary); });
  if (!read.ok()) return Annotate(read, "tokenizer.model");
  TANDEM_RETURN_IF_ERROR(CheckSupported(specs));

  vocabulary.byte_fallback = specs.byte_fallback;
  vocabulary.bos_id = FindControl(vocabulary, specs.bos_piece);
  vocabulary.eos_id = FindControl(vocabulary, specs.eos_piece);
  vocabulary.pad_id = FindControl(vocabulary, specs.pad_piece);
  vocabulary.add_bos = vocabulary.bos_id != kNoPiece;
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    Piece& piece = vocabulary.pieces[id];
    if (piece.type == PieceType::kUnknown) vocabulary.unk_id = static_cast<int32_t>(id);
    piece.special = piece.type == PieceType::kUserDefined && IsGemmaMarker(piece.text);
  }
  const absl::Status valid = vocabulary.Validate();
  if (!valid.ok()) return Annotate(valid, "tokenizer.model");
  return vocabulary;
}

}  // namespace tandem
