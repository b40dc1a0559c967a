#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "loader/read/input_file.h"
#include "loader/read/source_type.h"

namespace tandem {

// GGUF version 3, little-endian: magic, version, counts, key-value metadata, tensor infos, padding,
// data. All views point into the header's bytes, which GgufHeader keeps.

// The numbers of the format.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

struct GgufValue {
  GgufType type = GgufType::kUint32;
  GgufType element_type = GgufType::kUint32;  // arrays
  std::uint64_t count = 1;                    // elements of an array
  std::string_view raw;                   // scalars and arrays of scalars: the little-endian bytes
  std::vector<std::string_view> strings;  // a string, or an array of strings
};

struct GgufTensor {
  std::string_view name;
  std::vector<std::uint64_t> dims;  // 1 to 4; dims[0] is contiguous
  std::uint32_t type = 0;           // ggml's number
  std::uint64_t offset = 0;         // from the start of the file
  std::uint64_t bytes = 0;          // 0 for a type that we do not read
};

struct GgufHeader {
  std::shared_ptr<const std::string> bytes;
  std::map<std::string_view, GgufValue> metadata;
  std::vector<GgufTensor> tensors;

  // Metadata by key: nothing where it is not there, INVALID_ARGUMENT naming key, expected and found
  // where it has another type or does not fit.
  absl::StatusOr<std::optional<std::uint64_t>> Uint(
      std::string_view key) const;  // any integer type, not negative
  absl::StatusOr<std::optional<float>> Float(std::string_view key) const;  // float32 or float64
  absl::StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string_view>> String(std::string_view key) const;
  // An array whose elements have this type; null where the key is not there.
  absl::StatusOr<const GgufValue*> Array(std::string_view key, GgufType element) const;
};

// Parses a header out of the file's first bytes. OUT_OF_RANGE when they end inside the header: the
// caller reads more, unless the file is no longer than that. Checks all that does not need the
// model: counts, lengths, types, names once only, tensor offsets aligned, inside the file of
// `file_size` bytes and not overlapping.
absl::StatusOr<GgufHeader> ParseGgufHeader(std::shared_ptr<const std::string> prefix,
                                           std::uint64_t file_size);

// Reads and parses; errors begin with the file's path.
absl::StatusOr<GgufHeader> ReadGgufHeader(const InputFile& file);

bool HasGgufMagic(const InputFile& file);

// ggml's number of a tensor type -> ours, or nothing.
std::optional<SourceType> SourceTypeOfGgml(std::uint32_t type);

}  // namespace tandem
