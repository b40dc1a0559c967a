#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/strings.h"

namespace tandem {

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

}  // namespace tandem
