#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/worker/inline_edge.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {
namespace {

// The producer's carrier: reads its own ring and writes frames, one at a time; gRPC's flow control
// holds it back when the consumer is slow.
class Sender final : public EdgeCarrier {
 public:
  Sender(EdgeEndSpec spec, Mapping ring, std::unique_ptr<EdgeControl> control)
      : spec_(std::move(spec)),
        ring_(std::move(ring)),
        control_(std::move(control)),
        thread_([this] { Run(); }) {}

  ~Sender() override {
    control_->Interrupt();
    context_.TryCancel();
    thread_.join();
  }

  absl::Status WaitUntilAccepted(absl::Time deadline) {
    std::unique_lock lock(mutex_);
    while (!accepted_ && !over_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(
            absl::StrCat("edge ", spec_.id, ": expected ", spec_.consumer_address,
                         " to accept the stream, it did not in time"));
      }
      changed_.wait_for(lock, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(60))));
    }
    return accepted_ ? absl::OkStatus()
                     : absl::UnavailableError(absl::StrCat("edge ", spec_.id, ": ", error_));
  }

 private:
  void Run() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(
        GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
        1);  // a connection of its own: a dead one is never taken over from an edge before
    const auto channel = grpc::CreateCustomChannel(spec_.consumer_address,
                                                   grpc::InsecureChannelCredentials(), arguments);
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
      if (context_.GetServerInitialMetadata().count(kInlineAcceptedKey) != 0) {
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
    const auto row_bytes = static_cast<std::size_t>(spec_.layout.hidden_size) * sizeof(float);
    std::uint64_t next = 0;
    while (true) {
      const absl::StatusOr<EdgeControl::Arrival> arrival = control_->WaitForNext(next);
      if (!arrival.ok()) return arrival.status().ToString();
      const std::byte* rows =
          ring_.data() +
          static_cast<std::uint64_t>(control_->SlotOf(arrival->sequence)) * spec_.layout.slot_bytes;
      frame->set_sequence(arrival->sequence);
      frame->set_step_id(arrival->step_id);
      frame->set_rows(arrival->rows);
      frame->set_data(rows, static_cast<std::size_t>(arrival->rows) * row_bytes);
      control_->Release(arrival->sequence);
      if (!writer.Write(*frame)) return "the stream broke";
      next = arrival->sequence + 1;
    }
  }

  const EdgeEndSpec spec_;
  Mapping ring_;
  std::unique_ptr<EdgeControl> control_;  // the consuming end of this side's ring
  grpc::ClientContext context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool accepted_ = false;
  bool over_ = false;
  std::string error_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

absl::Status StartInlineProducer(Device& device, Edge* edge, absl::Time deadline) {
  const EdgeEndSpec& spec = edge->spec;
  if (spec.consumer_address.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "edge ", spec.id, ": expected the consumer's address for an inline edge, found none"));
  }
  TANDEM_ASSIGN_OR_RETURN(ResidualRing ring, MakeHostRing(device, spec));
  TANDEM_ASSIGN_OR_RETURN(
      Mapping mapping, Mapping::Map(ring.fd.get(), spec.layout.total_bytes(), /*writable=*/false));
  TANDEM_ASSIGN_OR_RETURN(edge->control, EdgeControl::Create(spec.id, EdgeEnd::kProducer,
                                                             spec.layout, spec.generation));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd page, Duplicate(edge->control->fd()));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<EdgeControl> consumer,
                          EdgeControl::Open(spec.id, EdgeEnd::kConsumer, std::move(page),
                                            spec.layout, spec.generation));
  edge->kind = HandleKind::kInline;
  edge->residual = std::move(ring.residual);
  edge->identity = ring.identity;
  auto sender = std::make_unique<Sender>(spec, std::move(mapping), std::move(consumer));
  TANDEM_RETURN_IF_ERROR(sender->WaitUntilAccepted(deadline));
  edge->carrier = std::move(sender);
  return absl::OkStatus();
}

}  // namespace tandem
