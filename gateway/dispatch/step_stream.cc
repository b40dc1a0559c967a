#include "gateway/dispatch/step_stream.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace tandem {

std::shared_ptr<StepStream> StepStream::Open(v1::Worker::Stub& stub, CallSet& calls,
                                             Handlers handlers) {
  std::shared_ptr<StepStream> stream(new StepStream(std::move(handlers)));
  stream->self_ = stream;
  stream->ticket_ = calls.Add(stream->context_);
  stub.async()->Steps(stream->context_.get(), stream.get());
  stream->AddHold();  // Send and Close come from outside gRPC's own callbacks; Close takes it away
  stream->StartRead(&stream->incoming_);
  stream->StartCall();
  return stream;
}

void StepStream::Send(v1::StepRequest request) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (writing_) {
      queue_.push_back(std::move(request));
      return;
    }
    writing_ = true;
  }
  outgoing_ = std::move(request);
  StartWrite(&outgoing_);  // may run OnWriteDone right here: no lock is held
}

void StepStream::OnWriteDone(bool ok) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!ok)
      // the stream is broken: OnReadDone tells. writing_ stays, nothing is written any more
      return;
    if (queue_.empty()) {
      writing_ = false;
      return;
    }
    outgoing_ = std::move(queue_.front());
    queue_.pop_front();
  }
  StartWrite(&outgoing_);
}

void StepStream::OnReadDone(bool ok) {
  if (!ok) {
    handlers_.on_end();
    return;
  }
  v1::StepResult result = std::exchange(incoming_, v1::StepResult());
  StartRead(&incoming_);
  handlers_.on_result(std::move(result));
}

void StepStream::Close() {
  context_->TryCancel();
  RemoveHold();
}

void StepStream::OnDone(const grpc::Status& status) {
  if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
    spdlog::info("step stream to {} ended: {}", context_->peer(), status.error_message());
  }
  context_.reset();
  ticket_.reset();
  const std::shared_ptr<StepStream> self = std::move(self_);  // dies at the end of this function
}

}  // namespace tandem
