#pragma once

#include "lib/memory/memory_declaration.h"

namespace tandem::v1 {
class MemoryDeclaration;
}

namespace tandem {

// A device's declaration of memory to and from proto/tandem/v1/worker.proto. Every message is a
// valid declaration.

v1::MemoryDeclaration ToProto(const MemoryDeclaration& declaration);
MemoryDeclaration FromProto(const v1::MemoryDeclaration& message);

}  // namespace tandem
