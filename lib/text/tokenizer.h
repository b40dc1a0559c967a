#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/text/vocabulary.h"

namespace tandem {

class BpeEncoder;

struct EncodeOptions {
  bool add_bos = false;  // bos before the ids; nothing where the vocabulary has no bos
  // true: what libsentencepiece does. User-defined symbols are taken whole wherever they stand,
  // <start_of_turn> and its like included. For prompts that the caller wrote as the model sees them
  // (/v1/completions). false: symbols that are `special` in the vocabulary are text like any other:
  // what a chat user typed cannot open or close a turn. Other user-defined symbols ("\n\n", "<h1>")
  // are still taken whole. Control pieces (bos, eos, pad) are never made from text either way.
  bool parse_special = false;
};

// SentencePiece BPE with byte fallback, identity normalisation and spaces written as U+2581. Ids
// and text equal libsentencepiece's, for invalid UTF-8 too (each byte that belongs to no character
// reads as U+FFFD). The library itself cannot be used: it exports the symbols of an old
// protobuf-lite and aborts in a process with gRPC.
//
// Immutable: any number of threads may use one Tokenizer at a time. Encode takes O(n log n) at
// worst for n bytes, whatever the text.
class Tokenizer {
 public:
  // Validates and takes over the vocabulary.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Create(Vocabulary vocabulary);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The token ids of `text`, any bytes. Fails only where libsentencepiece does not exist to compare
  // with: never for a valid vocabulary, so there is no status.
  std::vector<int32_t> Encode(std::string_view text, EncodeOptions options = {}) const;

  // The text of `ids`: control pieces give nothing, byte pieces are joined, U+FFFD for each byte of
  // a broken character. OutOfRange, naming index and id, for an id that is not in the vocabulary.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids) const;

  // The piece's own text ("\u2581the", "<0x0A>", "<bos>"). `id` must be in [0, size()).
  std::string_view PieceOf(int32_t id) const;

  // The bytes that `id` alone stands for: spaces instead of U+2581, one byte (perhaps half a
  // character) for a byte piece, nothing for control pieces. For logprobs' `token` and `bytes`.
  // `id` must be in [0, size()).
  std::string BytesOf(int32_t id) const;

  // The id of the piece with this very text, control and special ones included, or kNoPiece.
  int32_t IdOf(std::string_view piece) const;

  size_t size() const;
  int32_t bos_id() const;  // these four: kNoPiece where there is none
  int32_t eos_id() const;
  int32_t unk_id() const;
  int32_t pad_id() const;
  const Vocabulary& vocabulary() const;

 private:
  Tokenizer(Vocabulary vocabulary, std::unique_ptr<const BpeEncoder> encoder);

  const Vocabulary vocabulary_;
  const std::unique_ptr<const BpeEncoder> encoder_;
};

}  // namespace tandem
