#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tandem {

// The numbers are those of SentencePiece's model files and of GGUF's tokenizer.ggml.token_type.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // stands for text that has no piece; exactly one
  kControl = 3,      // never made from text, decodes to nothing (bos, eos, pad)
  kUserDefined = 4,  // taken whole from text before any merge
  kUnused = 5,       // may be an intermediate of merges, never an output
  kByte = 6,         // "<0x00>" to "<0xFF>"
};

// "normal", "unknown", ... for messages; "invalid" for a number that is none of them.
std::string_view PieceTypeName(PieceType type);

struct Piece {
  std::string text;    // UTF-8, not empty; a space is U+2581
  float score = 0.0f;  // of two merges the one with the higher score goes first
  PieceType type = PieceType::kNormal;
  // A user-defined symbol that steers the model (<start_of_turn>, <unused7>). Text that a chat user
  // typed must not become it: see EncodeOptions::parse_special.
  bool special = false;
};

inline constexpr int32_t kNoPiece = -1;
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// What a tokenizer is made of. Plain data: it travels from the loader, which reads it out of a
// model's files, to the gateway. The readers (sentencepiece_model.h, tokenizer_json.h,
// gguf_vocabulary.h) bring their three spellings of one tokenizer to the same Vocabulary, up to
// scores that order merges alike.
struct Vocabulary {
  std::vector<Piece> pieces;  // the index is the token id

  // Ids, or kNoPiece where the model has none. unk_id is always there.
  int32_t bos_id = kNoPiece;
  int32_t eos_id = kNoPiece;
  int32_t unk_id = kNoPiece;
  int32_t pad_id = kNoPiece;

  bool add_bos = true;                    // whether the model expects bos before a prompt
  bool add_eos = false;                   // and eos behind a text that is embedded
  bool byte_fallback = true;              // text without a piece becomes byte pieces instead of unk
  bool add_dummy_prefix = false;          // a space before the text (not for Gemma)
  bool remove_extra_whitespaces = false;  // trim, and one space for several (not for Gemma)
  std::string unk_surface = " \xE2\x81\x87 ";  // what unk decodes to

  // InvalidArgument, naming the piece, unless: there are 1 to kMaxPieces pieces; every text is
  // valid UTF-8, 1 to kMaxPieceBytes long and unique; scores are finite; there is exactly one
  // unknown piece and unk_id is it; all 256 byte pieces are there with byte_fallback and none
  // without; the other ids are kNoPiece or in range; only user-defined pieces are special.
  absl::Status Validate() const;
};

inline constexpr size_t kMaxPieces = size_t{1} << 22;
inline constexpr size_t kMaxPieceBytes = 4096;

// Whether `text` is one of the markers Gemma's vocabularies keep as user-defined symbols to steer
// the model: turns, images, mask, [multimodal], <unusedN>. tokenizer.model does not tell them from
// symbols such as "\n\n" or "<h1>".
bool IsGemmaMarker(std::string_view text);

// The bytes that the piece alone stands for (Tokenizer::BytesOf). `id` must be in range.
std::string BytesOfPiece(const Vocabulary& vocabulary, int32_t id);
// Of every token the bytes that it stands for in a text; nothing for those that no text is made of:
// control, special, unknown and unused pieces, and ids beyond the pieces.
std::vector<std::string> TextBytes(const Vocabulary& vocabulary, size_t vocab_size);

// The value of a byte piece's text ("<0x0A>" gives 10), or -1.
int ByteOfPiece(std::string_view text);

}  // namespace tandem
