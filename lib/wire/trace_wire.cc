#include "lib/wire/trace_wire.h"

#include <unistd.h>

#include "tandem/v1/trace.pb.h"

namespace tandem {

static_assert(static_cast<int>(TraceOp::kRun) == v1::TRACE_RUN &&
              static_cast<int>(TraceOp::kSample) == v1::TRACE_SAMPLE &&
              static_cast<int>(TraceOp::kResult) == v1::TRACE_RESULT);

void ReadTrace(TraceRecorder& recorder, std::uint64_t next, v1::ProcessTrace* message) {
  const TraceRecorder::Batch batch = recorder.Read(next, kTraceEventsPerMessage);
  message->set_pid(::getpid());
  message->set_next(batch.next);
  message->set_lost(batch.lost);
  for (const TraceEvent& event : batch.events) {
    message->add_op(static_cast<v1::TraceOp>(event.op));
    message->add_index(event.index);
    message->add_micro_batch(event.micro_batch);
    message->add_step_id(event.step_id);
    message->add_begin_ns(event.begin_ns);
    message->add_duration_ns(event.end_ns - event.begin_ns);
  }
  message->set_clock_ns(MonotonicNanoseconds());
}

}  // namespace tandem
