#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/device.h"

namespace tandem {

// The messages of an edge's handshake over the Unix socket, little endian, each starting with magic
// "TEH1" and a type byte. Text is a 16-bit length and the bytes. Parsers check every length and
// count; INVALID_ARGUMENT says what was expected.

// Importer to owner, first. The ring's shape is in it so that a disagreement is an error and not a
// wrong answer.
struct EdgeHello {
  std::string id;
  std::uint64_t generation = 0;
  ResidualLayout layout;
  std::vector<HandleKind> kinds;  // allowed, in order
};

// Owner to importer: an attempt with one kind. Descriptors with it: control page, then data
// (inline: none). With `error` the owner has no kind left and the handshake is over.
struct EdgeOffer {
  HandleKind kind = HandleKind::kInline;
  std::string error;
};

// Importer to owner: taken, or why not.
struct EdgeAnswer {
  bool accepted = false;
  std::string error;
};

std::string Encode(const EdgeHello& hello);
std::string Encode(const EdgeOffer& offer);
std::string Encode(const EdgeAnswer& answer);
absl::StatusOr<EdgeHello> ParseEdgeHello(std::string_view bytes);
absl::StatusOr<EdgeOffer> ParseEdgeOffer(std::string_view bytes);
absl::StatusOr<EdgeAnswer> ParseEdgeAnswer(std::string_view bytes);

// "dma-buf", "host-pointer", "inline".
absl::StatusOr<HandleKind> ParseHandleKind(std::string_view name);

}  // namespace tandem
