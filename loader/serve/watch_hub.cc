#include "loader/serve/watch_hub.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(100);

v1::LoadProgress::State StateOf(LoadState state) {
  switch (state) {
    case LoadState::kLoading:
      return v1::LoadProgress::LOADING;
    case LoadState::kReady:
      return v1::LoadProgress::READY;
    case LoadState::kFailed:
      return v1::LoadProgress::FAILED;
  }
  return v1::LoadProgress::STATE_UNSPECIFIED;
}

}  // namespace

// One call of Watch. Deletes itself when gRPC is done with it. A watcher that reads slowly skips
// messages, never the final one.
class WatchReactor final : public grpc::ServerWriteReactor<v1::LoadProgress> {
 public:
  explicit WatchReactor(WatchHub* hub) : hub_(hub) {}

  void Offer(const v1::LoadProgress& message) {
    const std::lock_guard lock(mutex_);
    if (finishing_) return;
    if (writing_) {
      next_ = message;
      return;
    }
    Write(message);
  }

  void Refuse(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    End(status);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (finishing_) return;
    if (!ok || cancelled_) return End(grpc::Status::CANCELLED);
    if (next_.has_value()) Write(*std::exchange(next_, std::nullopt));
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (!writing_ && !finishing_) End(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    hub_->Remove(this);
    delete this;
  }

 private:
  void Write(const v1::LoadProgress& message) {
    current_ = message;
    writing_ = true;
    if (current_.state() == v1::LoadProgress::LOADING) return StartWrite(&current_);
    finishing_ = true;
    StartWriteAndFinish(&current_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void End(const grpc::Status& status) {
    finishing_ = true;
    Finish(status);
  }

  WatchHub* const hub_;
  std::mutex mutex_;  // guards all below
  v1::LoadProgress current_;
  std::optional<v1::LoadProgress> next_;
  bool writing_ = false;
  bool finishing_ = false;
  bool cancelled_ = false;
};

WatchHub::WatchHub(ProgressTracker& tracker) : tracker_(tracker), thread_([this] { Run(); }) {}

WatchHub::~WatchHub() {
  stop_ = true;
  tracker_.Wake();
  thread_.join();
}

grpc::ServerWriteReactor<v1::LoadProgress>* WatchHub::NewWatcher() {
  auto* reactor = new WatchReactor(this);  // OnDone deletes it
  const std::lock_guard lock(mutex_);
  if (watchers_.size() >= kMaxWatchers) {
    reactor->Refuse({grpc::StatusCode::RESOURCE_EXHAUSTED,
                     absl::StrCat("expected at most ", kMaxWatchers, " watchers")});
    return reactor;
  }
  watchers_.insert(reactor);
  reactor->Offer(Message());
  return reactor;
}

void WatchHub::Remove(WatchReactor* reactor) {
  const std::lock_guard lock(mutex_);
  watchers_.erase(reactor);
}

void WatchHub::Run() {
  bool ended = false;
  while (!stop_ && !ended) {
    tracker_.WaitForEnd(kPeriod);
    const std::lock_guard lock(mutex_);
    const v1::LoadProgress message = Message();
    ended = message.state() != v1::LoadProgress::LOADING;
    for (WatchReactor* reactor : watchers_) reactor->Offer(message);
  }
  // Who comes later gets the final message from NewWatcher.
}

v1::LoadProgress WatchHub::Message() const {
  const LoadSnapshot now = tracker_.Get();
  v1::LoadProgress message;
  message.set_state(StateOf(now.state));
  message.set_bytes_done(now.bytes_done);
  message.set_bytes_total(now.bytes_total);
  message.set_tensors_done(now.tensors_done);
  message.set_tensors_total(now.tensors_total);
  message.set_seconds_elapsed(absl::ToDoubleSeconds(now.elapsed));
  message.set_seconds_left(now.seconds_left);
  message.set_current(now.current);
  message.set_error(now.error);
  return message;
}

}  // namespace tandem
