#include "lib/worker/steps_stream.h"

#include <utility>

namespace tandem {

std::shared_ptr<StepsStream> StepsStream::Create(StepLoop& loop) {
  std::shared_ptr<StepsStream> stream(new StepsStream(loop));
  stream->self_ = stream;
  std::lock_guard lock(stream->mutex_);
  stream->ReadNext();
  return stream;
}

void StepsStream::ReadNext() {
  if (reading_ || finished_ || outstanding_ >= kMaxOutstanding) return;
  reading_ = true;
  StartRead(&request_);
}

void StepsStream::WriteNext() {
  if (writing_ || finished_ || results_.empty()) return;
  writing_ = true;
  StartWrite(&results_.front());
}

void StepsStream::OnReadDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
  }
  if (!ok) {
    End(grpc::Status::OK);
    return;
  }
  // A reference of its own: results may come before Enqueue returns, and the stream may end
  // meanwhile.
  std::shared_ptr<StepsStream> self = self_;
  if (request_.has_step()) {
    {
      std::lock_guard lock(mutex_);
      ++outstanding_;
    }
    loop_.Enqueue(std::move(*request_.mutable_step()), self);
  } else if (request_.has_abort()) {
    loop_.Abort(request_.abort().generation(), request_.abort().reason());
  } else {
    End({grpc::StatusCode::INVALID_ARGUMENT,
         "StepRequest: expected a step or an abort, found neither"});
    return;
  }
  std::lock_guard lock(mutex_);
  request_.Clear();
  // only now: until here request_ was in use, and a result's OnWriteDone may start the next read
  reading_ = false;
  ReadNext();
}

void StepsStream::OnResult(v1::StepResult result) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  results_.push_back(std::move(result));
  WriteNext();
}

void StepsStream::OnWriteDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    results_.pop_front();
    --outstanding_;
    if (finished_) return;
    if (ok) {
      WriteNext();
      ReadNext();
      return;
    }
  }
  End({grpc::StatusCode::UNAVAILABLE, "writing a result failed"});
}

void StepsStream::End(grpc::Status status) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    finished_ = true;
    Finish(std::move(status));
  }
  loop_.AbortFor(this, "the stream of steps ended");
}

void StepsStream::OnCancel() { End({grpc::StatusCode::CANCELLED, "cancelled by the client"}); }

void StepsStream::OnDone() {
  // The loop's queue may hold the last references; without steps of ours this deletes the stream.
  std::shared_ptr<StepsStream> self = std::move(self_);
}

}  // namespace tandem
