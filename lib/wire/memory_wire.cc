#include "lib/wire/memory_wire.h"

#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

void Set(const MemoryAbility& ability, v1::MemoryAbility* message) {
  message->set_import_bytes(ability.import_bytes);
  message->set_export_bytes(ability.export_bytes);
}

}  // namespace

v1::MemoryDeclaration ToProto(const MemoryDeclaration& declaration) {
  v1::MemoryDeclaration message;
  Set(declaration.dma_buf, message.mutable_dma_buf());
  Set(declaration.host_pointer, message.mutable_host_pointer());
  message.set_owns_edges(declaration.owns_edges);
  message.set_host_view(declaration.host_view);
  return message;
}

MemoryDeclaration FromProto(const v1::MemoryDeclaration& message) {
  MemoryDeclaration declaration;
  declaration.dma_buf = {message.dma_buf().import_bytes(), message.dma_buf().export_bytes()};
  declaration.host_pointer = {message.host_pointer().import_bytes(),
                              message.host_pointer().export_bytes()};
  declaration.owns_edges = message.owns_edges();
  declaration.host_view = message.host_view();
  return declaration;
}

}  // namespace tandem
