#include "lib/text/wire_reader.h"

#include "lib/base/status_macros.h"

namespace tandem {

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

}  // namespace tandem
