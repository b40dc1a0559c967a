#include <spdlog/spdlog.h>

#include <condition_variable>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/worker/inline_edge.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

class Receiver final : public InlineReceiver {
 public:
  Receiver(EdgeEndSpec spec, Mapping ring, std::unique_ptr<EdgeControl> control)
      : spec_(std::move(spec)),
        ring_(std::move(ring)),
        control_(std::move(control)),
        thread_([this] { Run(); }) {}

  ~Receiver() override { Stop(); }

  void Deliver(std::shared_ptr<FrameStream> stream, const v1::EdgeFrame* frame) override {
    std::unique_lock lock(mutex_);
    if (stopped_ || (stream_ != nullptr && stream_ != stream)) {
      lock.unlock();
      stream->End(absl::AlreadyExistsError(
          absl::StrCat("inline edge ", spec_.id, ": it is closed or has another stream")));
      return;
    }
    stream_ = std::move(stream);
    frame_ = frame;
    changed_.notify_all();
  }

  void StreamEnded() override { control_->Close(); }

  void Stop() {
    std::shared_ptr<FrameStream> stream;
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return;
      stopped_ = true;
      changed_.notify_all();
    }
    control_->Interrupt();
    control_->Close();
    thread_.join();
    {
      std::lock_guard lock(mutex_);
      stream = std::move(stream_);
    }
    if (stream != nullptr)
      stream->End(absl::CancelledError(absl::StrCat("inline edge ", spec_.id, ": closed")));
  }

 private:
  void Run() {
    while (true) {
      std::shared_ptr<FrameStream> stream;
      const v1::EdgeFrame* frame = nullptr;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopped_ || frame_ != nullptr; });
        if (stopped_) return;
        stream = stream_;
        frame = std::exchange(frame_, nullptr);
      }
      const absl::Status taken = Take(*frame);
      if (taken.ok()) {
        stream->ReadNext();
        continue;
      }
      if (!absl::IsCancelled(taken)) spdlog::warn("inline edge {}: {}", spec_.id, taken.ToString());
      control_->Close();
      stream->End(taken);
      return;
    }
  }

  absl::Status Take(const v1::EdgeFrame& frame) {
    const auto row_bytes = static_cast<std::uint64_t>(spec_.layout.hidden_size) * sizeof(float);
    if (frame.rows() < 1 || frame.rows() > spec_.layout.max_tokens ||
        frame.data().size() != static_cast<std::uint64_t>(frame.rows()) * row_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "frame ", frame.sequence(), ": expected 1 to ", spec_.layout.max_tokens, " rows of ",
          row_bytes, " bytes, found ", frame.rows(), " rows in ", frame.data().size(), " bytes"));
    }
    const absl::Status space = control_->WaitForSpace(frame.sequence(), absl::InfiniteFuture());
    if (absl::IsAborted(space))
      return absl::OkStatus();  // the consumer has given up on that step: nobody wants the rows
    TANDEM_RETURN_IF_ERROR(space);
    std::memcpy(ring_.data() + static_cast<std::uint64_t>(control_->SlotOf(frame.sequence())) *
                                   spec_.layout.slot_bytes,
                frame.data().data(), frame.data().size());
    control_->Publish(frame.sequence(), frame.step_id(), frame.rows());
    return absl::OkStatus();
  }

  const EdgeEndSpec spec_;
  Mapping ring_;
  std::unique_ptr<EdgeControl> control_;  // the producing end of this side's ring
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::shared_ptr<FrameStream> stream_;
  const v1::EdgeFrame* frame_ = nullptr;
  std::thread thread_;  // last: it uses all of the above
};

class ReceiverCarrier final : public EdgeCarrier {
 public:
  ReceiverCarrier(InlineInbox& inbox, InlineInbox::Key key, std::shared_ptr<Receiver> receiver)
      : inbox_(inbox), key_(std::move(key)), receiver_(std::move(receiver)) {}
  ~ReceiverCarrier() override {
    inbox_.Unregister(key_);
    receiver_->Stop();
  }

 private:
  InlineInbox& inbox_;
  InlineInbox::Key key_;
  std::shared_ptr<Receiver> receiver_;
};

}  // namespace

absl::Status StartInlineConsumer(Device& device, Edge* edge, InlineInbox& inbox) {
  const EdgeEndSpec& spec = edge->spec;
  TANDEM_ASSIGN_OR_RETURN(ResidualRing ring, MakeHostRing(device, spec));
  TANDEM_ASSIGN_OR_RETURN(
      Mapping mapping, Mapping::Map(ring.fd.get(), spec.layout.total_bytes(), /*writable=*/true));
  TANDEM_ASSIGN_OR_RETURN(edge->control, EdgeControl::Create(spec.id, EdgeEnd::kConsumer,
                                                             spec.layout, spec.generation));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd page, Duplicate(edge->control->fd()));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<EdgeControl> producer,
                          EdgeControl::Open(spec.id, EdgeEnd::kProducer, std::move(page),
                                            spec.layout, spec.generation));
  edge->kind = HandleKind::kInline;
  edge->residual = std::move(ring.residual);
  edge->identity = ring.identity;
  auto receiver = std::make_shared<Receiver>(spec, std::move(mapping), std::move(producer));
  const InlineInbox::Key key{spec.id, spec.generation};
  TANDEM_RETURN_IF_ERROR(inbox.Register(key, receiver));
  edge->carrier = std::make_unique<ReceiverCarrier>(inbox, key, std::move(receiver));
  return absl::OkStatus();
}

}  // namespace tandem
