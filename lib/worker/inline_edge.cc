#include "lib/worker/inline_edge.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <span>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/tls/cluster_tls.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {
namespace {

// Initial metadata by which the consumer tells the producer that its frames are welcome.
constexpr char kAcceptedKey[] = "tandem-edge-accepted";

std::uint64_t RowBytes(const EdgeEndSpec& spec) {
  return static_cast<std::uint64_t>(spec.layout.columns) * sizeof(float);
}

std::byte* SlotAt(std::span<std::byte> ring, const EdgeEndSpec& spec, std::int32_t slot) {
  return ring.data() + static_cast<std::uint64_t>(slot) * spec.layout.slot_bytes;
}

// The carrier's side of a ring of this worker's own: the edge has the other one. Where the device
// made the memory the view is the residual's, which outlives the carrier.
struct LocalRing {
  SharedMemory memory;
  std::span<std::byte> view;
  std::unique_ptr<EdgeControl> other;
};
absl::StatusOr<LocalRing> MakeLocalEdge(Device& device, Edge* edge, EdgeEnd other_end) {
  const EdgeEndSpec& spec = edge->spec;
  TANDEM_ASSIGN_OR_RETURN(ResidualRing ring, MakeLocalRing(device, spec));
  LocalRing local;
  local.view = ring.view();
  TANDEM_ASSIGN_OR_RETURN(edge->control,
                          EdgeControl::Create(spec.id, spec.end, spec.layout, spec.generation));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd page, Duplicate(edge->control->fd()));
  TANDEM_ASSIGN_OR_RETURN(local.other, EdgeControl::Open(spec.id, other_end, std::move(page),
                                                         spec.layout, spec.generation));
  edge->kind = HandleKind::kInline;
  edge->residual = std::move(ring.residual);
  edge->identity = ring.identity;
  local.memory = std::move(ring.memory);
  return local;
}

}  // namespace

// One PushEdge stream at the consumer. Accept, ReadNext and End are safe from any thread, also
// after the stream's end; only the first End counts.
class PushEdgeStream final : public grpc::ServerReadReactor<v1::EdgeFrame>,
                             public std::enable_shared_from_this<PushEdgeStream> {
 public:
  PushEdgeStream(InlineInbox& inbox, grpc::CallbackServerContext& context)
      : inbox_(inbox), context_(context) {}

  void Start() {
    self_ = shared_from_this();
    StartRead(&frame_);
  }
  // Tells the producer that its frames are welcome, and reads the first for `receiver`.
  void Accept(std::shared_ptr<InlineReceiver> receiver);
  // The frame delivered last is used up.
  void ReadNext();
  void End(const absl::Status& status);

  void OnReadDone(bool ok) override;
  void OnCancel() override {
    inbox_.Withdraw(this);
    End(absl::CancelledError("cancelled by the producer"));
  }
  void OnDone() override {
    inbox_.Withdraw(this);
    const std::shared_ptr<PushEdgeStream> self = std::move(self_);
  }

 private:
  InlineInbox& inbox_;
  grpc::CallbackServerContext& context_;
  std::shared_ptr<PushEdgeStream> self_;
  v1::EdgeFrame frame_;
  std::mutex mutex_;
  bool announced_ = false;
  bool finished_ = false;
  std::shared_ptr<InlineReceiver> receiver_;
};

// The consumer's carrier: one thread moves frames into the ring.
class InlineReceiver {
 public:
  InlineReceiver(EdgeEndSpec spec, LocalRing ring)
      : spec_(std::move(spec)),
        memory_(std::move(ring.memory)),
        ring_(ring.view),
        control_(std::move(ring.other)),
        thread_([this] { Run(); }) {}
  ~InlineReceiver() { Stop(); }

  // `frame` stays valid until the stream's ReadNext or End is called.
  void Deliver(std::shared_ptr<PushEdgeStream> stream, const v1::EdgeFrame* frame) {
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
  // The consumer's waits end with UNAVAILABLE.
  void StreamEnded() { control_->Close(); }
  void Stop();

 private:
  void Run();
  absl::Status Take(const v1::EdgeFrame& frame);

  const EdgeEndSpec spec_;
  const SharedMemory memory_;
  const std::span<std::byte> ring_;
  const std::unique_ptr<EdgeControl> control_;  // the producing end of this side's ring
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::shared_ptr<PushEdgeStream> stream_;
  const v1::EdgeFrame* frame_ = nullptr;
  std::thread thread_;  // last: it uses all of the above
};

void PushEdgeStream::Accept(std::shared_ptr<InlineReceiver> receiver) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  receiver_ = std::move(receiver);
  context_.AddInitialMetadata(kAcceptedKey, "1");
  StartSendInitialMetadata();
  StartRead(&frame_);
}

void PushEdgeStream::ReadNext() {
  std::lock_guard lock(mutex_);
  if (!finished_) StartRead(&frame_);
}

void PushEdgeStream::OnReadDone(bool ok) {
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

void PushEdgeStream::End(const absl::Status& status) {
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

void InlineReceiver::Stop() {
  std::shared_ptr<PushEdgeStream> stream;
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

void InlineReceiver::Run() {
  while (true) {
    std::shared_ptr<PushEdgeStream> stream;
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

absl::Status InlineReceiver::Take(const v1::EdgeFrame& frame) {
  const std::uint64_t row_bytes = RowBytes(spec_);
  if (frame.rows() < 1 || frame.rows() > spec_.layout.max_tokens ||
      frame.data().size() != static_cast<std::uint64_t>(frame.rows()) * row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "frame ", frame.sequence(), ": expected 1 to ", spec_.layout.max_tokens, " rows of ",
        row_bytes, " bytes, found ", frame.rows(), " rows in ", frame.data().size(), " bytes"));
  }
  const absl::Status space = control_->WaitForSpace(frame.sequence(), Deadline::Never());
  // The consumer has given up on that step: nobody wants the rows.
  if (absl::IsAborted(space)) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(space);
  std::memcpy(SlotAt(ring_, spec_, control_->SlotOf(frame.sequence())), frame.data().data(),
              frame.data().size());
  control_->Publish(frame.sequence(), frame.step_id(), frame.rows());
  return absl::OkStatus();
}

grpc::ServerReadReactor<v1::EdgeFrame>* InlineInbox::NewStream(
    grpc::CallbackServerContext& context) {
  auto stream = std::make_shared<PushEdgeStream>(*this, context);
  {
    std::lock_guard lock(mutex_);
    std::erase_if(streams_, [](const auto& known) { return known.expired(); });
    streams_.push_back(stream);
  }
  stream->Start();
  return stream.get();
}

void InlineInbox::EndStreams(const absl::Status& status) {
  std::vector<std::weak_ptr<PushEdgeStream>> streams;
  {
    std::lock_guard lock(mutex_);
    streams = streams_;
  }
  for (const auto& weak : streams) {
    if (const std::shared_ptr<PushEdgeStream> stream = weak.lock()) stream->End(status);
  }
}

void InlineInbox::DropBefore(std::uint64_t generation) {
  std::list<Waiting> old;
  {
    std::lock_guard lock(mutex_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto next = std::next(it);
      if (it->key.second < generation) old.splice(old.end(), waiting_, it);
      it = next;
    }
  }
  for (const Waiting& entry : old)
    entry.stream->End(absl::CancelledError("inline edge: of an earlier generation"));
}

void InlineInbox::Announce(const Key& key, std::shared_ptr<PushEdgeStream> stream) {
  std::shared_ptr<InlineReceiver> receiver;
  std::shared_ptr<PushEdgeStream> oldest;
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

void InlineInbox::Withdraw(const PushEdgeStream* stream) {
  // Released after the lock: it may be the last reference.
  std::list<Waiting> gone;
  std::lock_guard lock(mutex_);
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto next = std::next(it);
    if (it->stream.get() == stream) gone.splice(gone.end(), waiting_, it);
    it = next;
  }
}

absl::Status InlineInbox::Register(const Key& key, std::shared_ptr<InlineReceiver> receiver) {
  std::shared_ptr<PushEdgeStream> stream;
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

namespace {

// The producer's carrier: reads its own ring and writes frames, one at a time; gRPC's flow control
// holds it back when the consumer is slow.
class InlineSender {
 public:
  InlineSender(EdgeEndSpec spec, LocalRing ring)
      : spec_(std::move(spec)),
        memory_(std::move(ring.memory)),
        ring_(ring.view),
        control_(std::move(ring.other)),
        thread_([this] { Run(); }) {}

  ~InlineSender() {
    control_->Interrupt();
    context_.TryCancel();
    thread_.join();
  }

  // Any thread: WaitUntilAccepted returns, the stream ends.
  void Cancel() {
    context_.TryCancel();
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

  absl::Status WaitUntilAccepted(Deadline deadline) {
    std::unique_lock lock(mutex_);
    while (!accepted_ && !over_ && !cancelled_) {
      const absl::Duration left = deadline.left();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(
            absl::StrCat("edge ", spec_.id, ": expected ", spec_.consumer_address,
                         " to accept the stream, it did not in time"));
      }
      changed_.wait_for(lock, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(60))));
    }
    if (cancelled_)
      return absl::CancelledError(absl::StrCat("edge ", spec_.id, ": connecting was cancelled"));
    return accepted_ ? absl::OkStatus()
                     : absl::UnavailableError(absl::StrCat("edge ", spec_.id, ": ", error_));
  }

 private:
  void Run() {
    grpc::ChannelArguments arguments;
    // A connection of its own: a dead one is never taken over from an edge before.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(
        spec_.consumer_address, ClusterChannelCredentials(spec_.consumer_address), arguments);
    const auto stub = v1::Worker::NewStub(channel);
    context_.set_wait_for_ready(true);
    v1::PushEdgeResponse response;
    const auto writer = stub->PushEdge(&context_, &response);
    v1::EdgeFrame frame;
    frame.set_edge_id(spec_.id);
    frame.set_generation(spec_.generation);
    std::string reason = "the stream ended";
    if (writer->Write(frame)) {
      writer->WaitForInitialMetadata();
      frame.Clear();
      if (context_.GetServerInitialMetadata().count(kAcceptedKey) != 0) {
        Accept();
        reason = Forward(*writer, &frame);
      }
    }
    control_->Close();
    context_.TryCancel();
    const grpc::Status status = writer->Finish();
    std::lock_guard lock(mutex_);
    over_ = true;
    error_ = absl::StrCat(spec_.consumer_address, ": ", reason, " (", status.error_message(), ")");
    changed_.notify_all();
  }

  void Accept() {
    std::lock_guard lock(mutex_);
    accepted_ = true;
    changed_.notify_all();
  }

  // Returns why it ended.
  std::string Forward(grpc::ClientWriter<v1::EdgeFrame>& writer, v1::EdgeFrame* frame) {
    std::uint64_t next = 0;
    while (true) {
      const absl::StatusOr<EdgeControl::Arrival> arrival = control_->WaitForNext(next);
      if (!arrival.ok()) return arrival.status().ToString();
      frame->set_sequence(arrival->sequence);
      frame->set_step_id(arrival->step_id);
      frame->set_rows(arrival->rows);
      frame->set_data(SlotAt(ring_, spec_, control_->SlotOf(arrival->sequence)),
                      static_cast<std::uint64_t>(arrival->rows) * RowBytes(spec_));
      control_->Release(arrival->sequence);
      if (!writer.Write(*frame)) return "the stream broke";
      next = arrival->sequence + 1;
    }
  }

  const EdgeEndSpec spec_;
  const SharedMemory memory_;
  const std::span<std::byte> ring_;
  const std::unique_ptr<EdgeControl> control_;  // the consuming end of this side's ring
  grpc::ClientContext context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool accepted_ = false;
  bool over_ = false;
  bool cancelled_ = false;
  std::string error_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

absl::Status StartInlineConsumer(Device& device, Edge* edge, InlineInbox& inbox) {
  TANDEM_ASSIGN_OR_RETURN(LocalRing ring, MakeLocalEdge(device, edge, EdgeEnd::kProducer));
  auto receiver = std::make_shared<InlineReceiver>(edge->spec, std::move(ring));
  const InlineInbox::Key key{edge->spec.id, edge->spec.generation};
  TANDEM_RETURN_IF_ERROR(inbox.Register(key, receiver));
  InlineReceiver* raw = receiver.get();
  edge->carrier = std::shared_ptr<void>(raw, [&inbox, key, receiver](void*) {
    inbox.Unregister(key);
    receiver->Stop();
  });
  return absl::OkStatus();
}

absl::Status StartInlineProducer(Device& device, Edge* edge, Cancellation& cancellation,
                                 Deadline deadline) {
  if (edge->spec.consumer_address.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge ", edge->spec.id,
                     ": expected the consumer's address for an inline edge, found none"));
  }
  TANDEM_ASSIGN_OR_RETURN(LocalRing ring, MakeLocalEdge(device, edge, EdgeEnd::kConsumer));
  auto sender = std::make_shared<InlineSender>(edge->spec, std::move(ring));
  {
    const Cancellation::Guard guard(cancellation, [&sender] { sender->Cancel(); });
    TANDEM_RETURN_IF_ERROR(sender->WaitUntilAccepted(deadline));
  }
  edge->carrier = std::move(sender);
  return absl::OkStatus();
}

}  // namespace tandem
