#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/worker/inline_edge.h"

namespace tandem {

void InlineInbox::Announce(const Key& key, std::shared_ptr<FrameStream> stream) {
  std::shared_ptr<InlineReceiver> receiver;
  std::shared_ptr<FrameStream> oldest;
  {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(receivers_.begin(), receivers_.end(),
                                    [&](const auto& r) { return r.first == key; });
    if (found != receivers_.end()) {
      receiver = found->second;
    } else {
      if (waiting_.size() == kMaxWaiting) {
        oldest = std::move(waiting_.front().stream);
        waiting_.pop_front();
      }
      waiting_.push_back({key, stream});
    }
  }
  if (oldest != nullptr)
    oldest->End(absl::ResourceExhaustedError("inline edge: too many streams wait for their edge"));
  if (receiver != nullptr) stream->Accept(std::move(receiver));
}

void InlineInbox::Withdraw(const FrameStream* stream) {
  std::list<Waiting> gone;
  std::lock_guard lock(mutex_);
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto next = std::next(it);
    if (it->stream.get() == stream) gone.splice(gone.end(), waiting_, it);
    it = next;
  }
}

absl::Status InlineInbox::Register(const Key& key, std::shared_ptr<InlineReceiver> receiver) {
  std::shared_ptr<FrameStream> stream;
  {
    std::lock_guard lock(mutex_);
    if (std::any_of(receivers_.begin(), receivers_.end(),
                    [&](const auto& r) { return r.first == key; })) {
      return absl::AlreadyExistsError(absl::StrCat("inline edge ", key.first, ": generation ",
                                                   key.second, " is connected already"));
    }
    receivers_.emplace_back(key, receiver);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Waiting& w) { return w.key == key; });
    if (found != waiting_.end()) {
      stream = std::move(found->stream);
      waiting_.erase(found);
    }
  }
  if (stream != nullptr) stream->Accept(std::move(receiver));
  return absl::OkStatus();
}

void InlineInbox::Unregister(const Key& key) {
  std::lock_guard lock(mutex_);
  receivers_.remove_if([&](const auto& r) { return r.first == key; });
}

}  // namespace tandem
