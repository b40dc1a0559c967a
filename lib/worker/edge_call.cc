#include "lib/worker/edge_call.h"

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "tandem/v1/descriptors.pb.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxEdgeIdBytes = 200;
constexpr int kNumKinds = 3;

}  // namespace

std::string EncodeEdgeCall(const EdgeCall& call) {
  v1::DescriptorHello message;
  v1::EdgeHello& hello = *message.mutable_edge();
  hello.set_id(call.id);
  hello.set_generation(call.generation);
  hello.set_slots(call.layout.slots);
  hello.set_max_tokens(call.layout.max_tokens);
  hello.set_columns(call.layout.columns);
  hello.set_slot_bytes(call.layout.slot_bytes);
  for (const HandleKind kind : call.kinds) hello.add_kinds(std::string(NameOf(kind)));
  return message.SerializeAsString();
}

absl::StatusOr<EdgeCall> ParseEdgeCall(std::string_view bytes) {
  v1::DescriptorHello message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !message.has_edge()) {
    return absl::InvalidArgumentError(absl::StrCat("handshake: expected an edge's hello, found ",
                                                   bytes.size(), " bytes of something else"));
  }
  const v1::EdgeHello& hello = message.edge();
  if (hello.id().empty() || hello.id().size() > kMaxEdgeIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("handshake: edge id: expected 1 to ",
                                                   kMaxEdgeIdBytes, " bytes, found ",
                                                   hello.id().size()));
  }
  if (hello.kinds_size() < 1 || hello.kinds_size() > kNumKinds) {
    return absl::InvalidArgumentError(
        absl::StrCat("handshake: expected 1 to ", kNumKinds, " kinds, found ", hello.kinds_size()));
  }
  EdgeCall call;
  call.id = hello.id();
  call.generation = hello.generation();
  call.layout = {hello.slots(), hello.max_tokens(), hello.columns(), hello.slot_bytes()};
  for (const std::string& name : hello.kinds()) {
    TANDEM_ASSIGN_OR_RETURN(const HandleKind kind, ParseEnum<HandleKind>("handle kind", name));
    call.kinds.push_back(kind);
  }
  return call;
}

}  // namespace tandem
