#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
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

  // The token ids of `text`, which may be any bytes, up to 1 GiB.
  std::vector<int32_t> Encode(std::string_view text, EncodeOptions options = {}) const;

  // The same, where more than `max_ids` ids are of no use: OutOfRange as soon as it is certain that
  // there are more. A text that is too long by far is known from its bytes, without encoding it.
  absl::StatusOr<std::vector<int32_t>> EncodeAtMost(std::string_view text, size_t max_ids,
                                                    EncodeOptions options = {}) const;

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

  // OutOfRange, naming index and id, unless every id is in [0, size()).
  absl::Status ValidateIds(absl::Span<const int32_t> ids) const;

  size_t size() const { return vocabulary_.pieces.size(); }
  int32_t bos_id() const { return vocabulary_.bos_id; }  // these four: kNoPiece where there is none
  int32_t eos_id() const { return vocabulary_.eos_id; }
  int32_t unk_id() const { return vocabulary_.unk_id; }
  int32_t pad_id() const { return vocabulary_.pad_id; }
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  explicit Tokenizer(Vocabulary vocabulary);

  const Vocabulary vocabulary_;
  const std::unique_ptr<const BpeEncoder> encoder_;
  std::unordered_map<std::string_view, int32_t> ids_;  // by text, which lies in vocabulary_
};

}  // namespace tandem
