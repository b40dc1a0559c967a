#include "lib/worker/edge_stream.h"

#include <string>
#include <utility>

namespace tandem {

std::shared_ptr<EdgeStream> EdgeStream::Create(InlineInbox& inbox,
                                               grpc::CallbackServerContext& context) {
  std::shared_ptr<EdgeStream> stream(new EdgeStream(inbox, context));
  stream->self_ = stream;
  stream->StartRead(&stream->frame_);
  return stream;
}

void EdgeStream::Accept(std::shared_ptr<InlineReceiver> receiver) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  receiver_ = std::move(receiver);
  context_.AddInitialMetadata(kInlineAcceptedKey, "1");
  StartSendInitialMetadata();
  StartRead(&frame_);
}

void EdgeStream::ReadNext() {
  std::lock_guard lock(mutex_);
  if (!finished_) StartRead(&frame_);
}

void EdgeStream::OnReadDone(bool ok) {
  std::shared_ptr<InlineReceiver> receiver;
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    receiver = receiver_;
    first = !std::exchange(announced_, true);
  }
  if (!ok) {
    End(absl::OkStatus());
  } else if (first) {
    inbox_.Announce({frame_.edge_id(), frame_.generation()}, self_);
  } else if (receiver != nullptr) {
    receiver->Deliver(self_, &frame_);
  }
}

void EdgeStream::End(const absl::Status& status) {
  std::shared_ptr<InlineReceiver> receiver;
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    finished_ = true;
    receiver = std::move(receiver_);
    Finish(
        grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message())));
  }
  if (receiver != nullptr) receiver->StreamEnded();
}

void EdgeStream::OnCancel() {
  inbox_.Withdraw(this);
  End(absl::CancelledError("cancelled by the producer"));
}

void EdgeStream::OnDone() {
  inbox_.Withdraw(this);
  std::shared_ptr<EdgeStream> self = std::move(self_);
}

}  // namespace tandem
