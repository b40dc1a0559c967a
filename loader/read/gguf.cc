#include "loader/read/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are copied out of the file as they lie");

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kMaxEntries = 1 << 20;  // metadata keys, tensors
constexpr std::uint64_t kMaxNameBytes = 65535;  // the format's limit for keys
constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kFirstRead = std::uint64_t{16} << 20;

// Walks the header; a read past the end gives OUT_OF_RANGE.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  absl::StatusOr<std::string_view> Take(std::uint64_t count) {
    if (count > left())
      return absl::OutOfRangeError(
          absl::StrCat("header: expected ", count, " bytes at offset ", at_, ", found ", left()));
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }
  template <typename T>
  absl::StatusOr<T> Scalar() {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view raw, Take(sizeof(T)));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  absl::StatusOr<std::string_view> String() {
    TANDEM_ASSIGN_OR_RETURN(const auto length, Scalar<std::uint64_t>());
    return Take(length);
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

// Bytes of a scalar, 0 for strings, arrays and unknown numbers.
std::uint64_t ScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

absl::StatusOr<std::string_view> TakeName(Cursor& cursor, const char* what) {
  TANDEM_ASSIGN_OR_RETURN(const auto length, cursor.Scalar<std::uint64_t>());
  if (length < 1 || length > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("header: ", what, " at offset ", cursor.at(),
                                                   ": expected 1 to ", kMaxNameBytes,
                                                   " bytes, found ", length));
  }
  return cursor.Take(length);
}

absl::Status TakeArray(Cursor& cursor, std::string_view key, GgufValue& value) {
  TANDEM_ASSIGN_OR_RETURN(const auto element, cursor.Scalar<std::uint32_t>());
  value.element_type = static_cast<GgufType>(element);
  TANDEM_ASSIGN_OR_RETURN(value.count, cursor.Scalar<std::uint64_t>());
  if (value.element_type == GgufType::kString) {
    // Each takes 8 bytes at least; no memory is set aside for a count that cannot be.
    if (value.count > kMaxHeaderBytes / 8)
      return absl::InvalidArgumentError(
          Cat("key ", QuotedName(key), ": expected fewer strings, found ", value.count));
    if (value.count > cursor.left() / 8)
      return absl::OutOfRangeError(
          Cat("header: key ", QuotedName(key), ": expected ", value.count, " strings"));
    value.strings.reserve(value.count);
    for (std::uint64_t i = 0; i < value.count; ++i) {
      TANDEM_ASSIGN_OR_RETURN(const std::string_view text, cursor.String());
      value.strings.push_back(text);
    }
    return absl::OkStatus();
  }
  const std::uint64_t size = ScalarBytes(value.element_type);
  if (size == 0)
    return absl::InvalidArgumentError(Cat("key ", QuotedName(key),
                                          ": expected an array of scalars or strings, found type ",
                                          element));
  if (value.count > kMaxHeaderBytes / size)
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected fewer elements, found ", value.count));
  TANDEM_ASSIGN_OR_RETURN(value.raw, cursor.Take(value.count * size));
  return absl::OkStatus();
}

absl::Status TakeMetadata(Cursor& cursor, GgufHeader& header) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view key, TakeName(cursor, "key"));
  TANDEM_ASSIGN_OR_RETURN(const auto number, cursor.Scalar<std::uint32_t>());
  GgufValue value;
  value.type = static_cast<GgufType>(number);
  if (value.type == GgufType::kString) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view text, cursor.String());
    value.strings.push_back(text);
  } else if (value.type == GgufType::kArray) {
    TANDEM_RETURN_IF_ERROR(TakeArray(cursor, key, value));
  } else {
    const std::uint64_t size = ScalarBytes(value.type);
    if (size == 0)
      return absl::InvalidArgumentError(
          Cat("key ", QuotedName(key), ": expected a value type of 0 to 12, found ", number));
    TANDEM_ASSIGN_OR_RETURN(value.raw, cursor.Take(size));
  }
  if (!header.metadata.emplace(key, std::move(value)).second) {
    return absl::InvalidArgumentError(Cat("key ", QuotedName(key), ": expected once, found twice"));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufTensor> TakeTensor(Cursor& cursor) {
  GgufTensor tensor;
  TANDEM_ASSIGN_OR_RETURN(tensor.name, TakeName(cursor, "tensor name"));
  TANDEM_ASSIGN_OR_RETURN(const auto dims, cursor.Scalar<std::uint32_t>());
  if (dims < 1 || dims > 4)
    return absl::InvalidArgumentError(
        Cat("tensor ", QuotedName(tensor.name), ": expected 1 to 4 dimensions, found ", dims));
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dims; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const auto size, cursor.Scalar<std::uint64_t>());
    if (size < 1 || __builtin_mul_overflow(elements, size, &elements) ||
        elements > (std::uint64_t{1} << 48)) {
      return absl::InvalidArgumentError(
          Cat("tensor ", QuotedName(tensor.name),
              ": shape: expected 1 to 2^48 elements, found dimension ", size));
    }
    tensor.dims.push_back(size);
  }
  TANDEM_ASSIGN_OR_RETURN(tensor.type, cursor.Scalar<std::uint32_t>());
  TANDEM_ASSIGN_OR_RETURN(tensor.offset, cursor.Scalar<std::uint64_t>());
  const std::optional<SourceType> type = SourceTypeOfGgml(tensor.type);
  if (!type.has_value()) return tensor;
  const BlockSize block = BlockSizeOf(*type);
  if (tensor.dims[0] % static_cast<std::uint64_t>(block.elements) != 0) {
    return absl::InvalidArgumentError(
        Cat("tensor ", QuotedName(tensor.name), ": expected rows that are a multiple of ",
            block.elements, " (", SourceTypeName(*type), "), found ", tensor.dims[0]));
  }
  tensor.bytes = elements / static_cast<std::uint64_t>(block.elements) *
                 static_cast<std::uint64_t>(block.bytes);
  return tensor;
}

absl::StatusOr<std::uint64_t> AlignmentOf(const GgufHeader& header) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> alignment,
                          header.Uint("general.alignment"));
  if (!alignment.has_value()) return 32;
  if (!std::has_single_bit(*alignment) || *alignment > (1 << 20)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "key 'general.alignment': expected a power of two up to 2^20, found ", *alignment));
  }
  return *alignment;
}

// Turns offsets from the data's start into offsets from the file's and checks the ranges.
absl::Status PlaceTensors(GgufHeader& header, std::uint64_t header_bytes, std::uint64_t file_size) {
  TANDEM_ASSIGN_OR_RETURN(const std::uint64_t alignment, AlignmentOf(header));
  const std::uint64_t data_start = RoundUp(header_bytes, alignment);
  std::set<std::string_view> names;
  for (GgufTensor& tensor : header.tensors) {
    if (!names.insert(tensor.name).second)
      return absl::InvalidArgumentError(
          Cat("tensor ", QuotedName(tensor.name), ": expected once, found twice"));
    if (tensor.offset % alignment != 0) {
      return absl::InvalidArgumentError(Cat("tensor ", QuotedName(tensor.name),
                                            ": expected an offset that is a multiple of ",
                                            alignment, ", found ", tensor.offset));
    }
    const std::uint64_t data_bytes = file_size > data_start ? file_size - data_start : 0;
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
      return absl::InvalidArgumentError(Cat("tensor ", QuotedName(tensor.name),
                                            ": expected an end inside the file's ", data_bytes,
                                            " bytes of data, found offset ", tensor.offset,
                                            " with ", tensor.bytes, " bytes (truncated file?)"));
    }
    tensor.offset += data_start;
  }
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : header.tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes) {
      return absl::InvalidArgumentError(
          Cat("tensor ", QuotedName(order[i]->name), ": expected an offset after ",
              QuotedName(order[i - 1]->name), " ends at ",
              order[i - 1]->offset + order[i - 1]->bytes, ", found ", order[i]->offset));
    }
  }
  return absl::OkStatus();
}

absl::Status WrongType(std::string_view key, const char* expected, const GgufValue& value) {
  return absl::InvalidArgumentError(Cat("key ", QuotedName(key), ": expected ", expected,
                                        ", found value type ",
                                        static_cast<std::uint32_t>(value.type)));
}

template <typename T>
T As(std::string_view raw) {
  T value;
  std::memcpy(&value, raw.data(), sizeof(T));
  return value;
}

// The integer in `value` as int64 (uint64 above that range saturates), or nothing for another type.
std::optional<std::int64_t> IntegerOf(const GgufValue& value) {
  switch (value.type) {
    case GgufType::kUint8:
      return As<std::uint8_t>(value.raw);
    case GgufType::kInt8:
      return As<std::int8_t>(value.raw);
    case GgufType::kUint16:
      return As<std::uint16_t>(value.raw);
    case GgufType::kInt16:
      return As<std::int16_t>(value.raw);
    case GgufType::kUint32:
      return As<std::uint32_t>(value.raw);
    case GgufType::kInt32:
      return As<std::int32_t>(value.raw);
    case GgufType::kUint64:
      return static_cast<std::int64_t>(
          std::min<std::uint64_t>(As<std::uint64_t>(value.raw), INT64_MAX));
    case GgufType::kInt64:
      return As<std::int64_t>(value.raw);
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<SourceType> SourceTypeOfGgml(std::uint32_t type) {
  static constexpr std::pair<std::uint32_t, SourceType> kTypes[] = {
      {0, SourceType::kF32},  {1, SourceType::kF16},  {2, SourceType::kQ4_0},
      {6, SourceType::kQ5_0}, {8, SourceType::kQ8_0}, {12, SourceType::kQ4K},
      {13, SourceType::kQ5K}, {14, SourceType::kQ6K}, {30, SourceType::kBf16}};
  for (const auto& [number, source] : kTypes) {
    if (number == type) return source;
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<std::uint64_t>> GgufHeader::Uint(std::string_view key) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return std::optional<std::uint64_t>();
  const std::optional<std::int64_t> value = IntegerOf(it->second);
  if (!value.has_value()) return WrongType(key, "an integer", it->second);
  if (*value < 0)
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected 0 or more, found ", *value));
  return std::optional<std::uint64_t>(static_cast<std::uint64_t>(*value));
}

absl::StatusOr<std::optional<float>> GgufHeader::Float(std::string_view key) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return std::optional<float>();
  float value = 0;
  if (it->second.type == GgufType::kFloat32) {
    value = As<float>(it->second.raw);
  } else if (it->second.type == GgufType::kFloat64) {
    value = static_cast<float>(As<double>(it->second.raw));
  } else {
    return WrongType(key, "a float", it->second);
  }
  if (!std::isfinite(value))
    return absl::InvalidArgumentError(
        Cat("key ", QuotedName(key), ": expected a finite number, found ", value));
  return std::optional<float>(value);
}

absl::StatusOr<std::optional<bool>> GgufHeader::Bool(std::string_view key) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return std::optional<bool>();
  if (it->second.type != GgufType::kBool) return WrongType(key, "a bool", it->second);
  return std::optional<bool>(it->second.raw[0] != 0);
}

absl::StatusOr<std::optional<std::string_view>> GgufHeader::String(std::string_view key) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return std::optional<std::string_view>();
  if (it->second.type != GgufType::kString) return WrongType(key, "a string", it->second);
  return std::optional<std::string_view>(it->second.strings[0]);
}

absl::StatusOr<const GgufValue*> GgufHeader::Array(std::string_view key, GgufType element) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return static_cast<const GgufValue*>(nullptr);
  if (it->second.type != GgufType::kArray) return WrongType(key, "an array", it->second);
  if (it->second.element_type != element) {
    return absl::InvalidArgumentError(Cat("key ", QuotedName(key), ": expected an array of type ",
                                          static_cast<std::uint32_t>(element), ", found ",
                                          static_cast<std::uint32_t>(it->second.element_type)));
  }
  return &it->second;
}

absl::StatusOr<GgufHeader> ParseGgufHeader(std::shared_ptr<const std::string> prefix,
                                           std::uint64_t file_size) {
  GgufHeader header;
  header.bytes = prefix;
  Cursor cursor(*prefix);
  TANDEM_ASSIGN_OR_RETURN(const std::string_view magic, cursor.Take(kMagic.size()));
  if (magic != kMagic)
    return absl::InvalidArgumentError(Cat("magic: expected 'GGUF', found ", QuotedName(magic)));
  TANDEM_ASSIGN_OR_RETURN(const auto version, cursor.Scalar<std::uint32_t>());
  if (version != kVersion) {
    const bool swapped = __builtin_bswap32(version) == kVersion;
    return absl::InvalidArgumentError(absl::StrCat("version: expected ", kVersion, ", found ",
                                                   version, swapped ? " (a big-endian file)" : ""));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto tensors, cursor.Scalar<std::uint64_t>());
  TANDEM_ASSIGN_OR_RETURN(const auto keys, cursor.Scalar<std::uint64_t>());
  if (tensors > kMaxEntries || keys > kMaxEntries) {
    return absl::InvalidArgumentError(absl::StrCat("header: expected at most ", kMaxEntries,
                                                   " tensors and keys, found ", tensors, " and ",
                                                   keys));
  }
  for (std::uint64_t i = 0; i < keys; ++i) TANDEM_RETURN_IF_ERROR(TakeMetadata(cursor, header));
  for (std::uint64_t i = 0; i < tensors; ++i) {
    TANDEM_ASSIGN_OR_RETURN(GgufTensor tensor, TakeTensor(cursor));
    header.tensors.push_back(std::move(tensor));
  }
  TANDEM_RETURN_IF_ERROR(PlaceTensors(header, cursor.at(), file_size));
  return header;
}

absl::StatusOr<GgufHeader> ReadGgufHeader(const InputFile& file) {
  const std::uint64_t limit = std::min(file.size(), kMaxHeaderBytes);
  for (std::uint64_t bytes = std::min(limit, kFirstRead);; bytes = std::min(limit, bytes * 4)) {
    auto prefix = std::make_shared<std::string>(bytes, '\0');
    TANDEM_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(*prefix))));
    absl::StatusOr<GgufHeader> header = ParseGgufHeader(std::move(prefix), file.size());
    if (header.ok()) return header;
    if (!absl::IsOutOfRange(header.status()) || bytes == limit) {
      const std::string text =
          Cat(file.path(), ": ",
              std::string_view(header.status().message().data(), header.status().message().size()),
              absl::IsOutOfRange(header.status()) ? " (truncated file?)" : "");
      return absl::InvalidArgumentError(text);
    }
  }
}

bool HasGgufMagic(const InputFile& file) {
  std::array<char, 4> magic{};
  if (file.size() < magic.size()) return false;
  if (!file.ReadAt(0, std::as_writable_bytes(std::span(magic))).ok()) return false;
  return std::string_view(magic.data(), magic.size()) == kMagic;
}

}  // namespace tandem
