#pragma once

#include <cstdint>

#include "lib/base/trace.h"

namespace tandem::v1 {
class ProcessTrace;
}

namespace tandem {

// Events of one answer; with several workers all of them stay under gRPC's usual 4 MiB.
inline constexpr std::size_t kTraceEventsPerMessage = std::size_t{1} << 15;

// Reads the recorder from `next` on into the message: everything but names and offset.
void ReadTrace(TraceRecorder& recorder, std::uint64_t next, v1::ProcessTrace* message);

}  // namespace tandem
