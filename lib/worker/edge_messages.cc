#include "lib/worker/edge_messages.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint32_t kMagic = 0x31484554;  // "TEH1"
constexpr std::uint8_t kHelloType = 1;
constexpr std::uint8_t kOfferType = 2;
constexpr std::uint8_t kAnswerType = 3;
constexpr std::size_t kMaxText = 1024;
constexpr std::size_t kNumKinds = 3;

class Writer {
 public:
  explicit Writer(std::uint8_t type) {
    Integer(kMagic);
    Integer(type);
  }
  template <typename T>
  void Integer(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
      out_.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
  void Text(std::string_view text) {
    text = text.substr(0, kMaxText);
    Integer(static_cast<std::uint16_t>(text.size()));
    out_.append(text);
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  absl::Status Start(std::uint8_t type) {
    TANDEM_ASSIGN_OR_RETURN(const auto magic, Integer<std::uint32_t>("magic"));
    TANDEM_ASSIGN_OR_RETURN(const auto found, Integer<std::uint8_t>("type"));
    if (magic == kMagic && found == type) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("edge handshake: expected magic ", absl::Hex(kMagic), " and type ", type,
                     ", found ", absl::Hex(magic), " and type ", found));
  }
  template <typename T>
  absl::StatusOr<T> Integer(std::string_view what) {
    if (rest_.size() < sizeof(T)) return Short(what, sizeof(T));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(rest_[i])) << (8 * i);
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(value);
  }
  absl::StatusOr<std::string> Text(std::string_view what) {
    TANDEM_ASSIGN_OR_RETURN(const auto size, Integer<std::uint16_t>(what));
    if (size > kMaxText) {
      return absl::InvalidArgumentError(absl::StrCat("edge handshake: ", AbslView(what),
                                                     ": expected at most ", kMaxText,
                                                     " bytes, found ", size));
    }
    if (rest_.size() < size) return Short(what, size);
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }
  absl::StatusOr<HandleKind> Kind() {
    TANDEM_ASSIGN_OR_RETURN(const auto kind, Integer<std::uint8_t>("handle kind"));
    if (kind < kNumKinds) return static_cast<HandleKind>(kind);
    return absl::InvalidArgumentError(
        absl::StrCat("edge handshake: expected a handle kind below ", kNumKinds, ", found ", kind));
  }
  absl::Status End() const {
    if (rest_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("edge handshake: expected the end, found ", rest_.size(), " more bytes"));
  }

 private:
  absl::Status Short(std::string_view what, std::size_t bytes) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "edge handshake: ", AbslView(what), ": expected ", bytes, " bytes, found ", rest_.size()));
  }
  std::string_view rest_;
};

}  // namespace

std::string Encode(const EdgeHello& hello) {
  Writer out(kHelloType);
  out.Text(hello.id);
  out.Integer(hello.generation);
  out.Integer(hello.layout.slots);
  out.Integer(hello.layout.max_tokens);
  out.Integer(hello.layout.hidden_size);
  out.Integer(hello.layout.slot_bytes);
  out.Integer(static_cast<std::uint8_t>(hello.kinds.size()));
  for (const HandleKind kind : hello.kinds) out.Integer(static_cast<std::uint8_t>(kind));
  return out.Take();
}

std::string Encode(const EdgeOffer& offer) {
  Writer out(kOfferType);
  out.Integer(static_cast<std::uint8_t>(offer.kind));
  out.Text(offer.error);
  return out.Take();
}

std::string Encode(const EdgeAnswer& answer) {
  Writer out(kAnswerType);
  out.Integer(static_cast<std::uint8_t>(answer.accepted ? 1 : 0));
  out.Text(answer.error);
  return out.Take();
}

absl::StatusOr<EdgeHello> ParseEdgeHello(std::string_view bytes) {
  Reader in(bytes);
  TANDEM_RETURN_IF_ERROR(in.Start(kHelloType));
  EdgeHello hello;
  TANDEM_ASSIGN_OR_RETURN(hello.id, in.Text("edge id"));
  TANDEM_ASSIGN_OR_RETURN(hello.generation, in.Integer<std::uint64_t>("generation"));
  TANDEM_ASSIGN_OR_RETURN(hello.layout.slots, in.Integer<std::int32_t>("slots"));
  TANDEM_ASSIGN_OR_RETURN(hello.layout.max_tokens, in.Integer<std::int32_t>("tokens of a slot"));
  TANDEM_ASSIGN_OR_RETURN(hello.layout.hidden_size, in.Integer<std::int32_t>("hidden size"));
  TANDEM_ASSIGN_OR_RETURN(hello.layout.slot_bytes, in.Integer<std::uint64_t>("bytes of a slot"));
  TANDEM_ASSIGN_OR_RETURN(const auto kinds, in.Integer<std::uint8_t>("number of handle kinds"));
  if (kinds == 0 || kinds > kNumKinds) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge handshake: expected 1 to ", kNumKinds, " handle kinds, found ", kinds));
  }
  for (std::uint8_t i = 0; i < kinds; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const HandleKind kind, in.Kind());
    hello.kinds.push_back(kind);
  }
  TANDEM_RETURN_IF_ERROR(in.End());
  return hello;
}

absl::StatusOr<EdgeOffer> ParseEdgeOffer(std::string_view bytes) {
  Reader in(bytes);
  TANDEM_RETURN_IF_ERROR(in.Start(kOfferType));
  EdgeOffer offer;
  TANDEM_ASSIGN_OR_RETURN(offer.kind, in.Kind());
  TANDEM_ASSIGN_OR_RETURN(offer.error, in.Text("error"));
  TANDEM_RETURN_IF_ERROR(in.End());
  return offer;
}

absl::StatusOr<EdgeAnswer> ParseEdgeAnswer(std::string_view bytes) {
  Reader in(bytes);
  TANDEM_RETURN_IF_ERROR(in.Start(kAnswerType));
  EdgeAnswer answer;
  TANDEM_ASSIGN_OR_RETURN(const auto accepted, in.Integer<std::uint8_t>("answer"));
  if (accepted > 1)
    return absl::InvalidArgumentError(
        absl::StrCat("edge handshake: answer: expected 0 or 1, found ", accepted));
  answer.accepted = accepted == 1;
  TANDEM_ASSIGN_OR_RETURN(answer.error, in.Text("error"));
  TANDEM_RETURN_IF_ERROR(in.End());
  return answer;
}

absl::StatusOr<HandleKind> ParseHandleKind(std::string_view name) {
  for (const HandleKind kind :
       {HandleKind::kDmaBuf, HandleKind::kHostPointer, HandleKind::kInline}) {
    if (HandleKindName(kind) == name) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "handle kind: expected dma-buf, host-pointer or inline, found '", AbslView(name), "'"));
}

}  // namespace tandem
