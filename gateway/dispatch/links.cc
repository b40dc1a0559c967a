#include "gateway/dispatch/links.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/tls/cluster_tls.h"
#include "lib/wire/model_wire.h"

namespace tandem {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;

// What a unary call needs until it is over.
template <typename Request, typename Response>
struct Call {
  std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
  Request request;
  Response response;
  WorkerLink::Done<Response> done;
  std::unique_ptr<CallSet::Ticket> ticket;
};

// `start(context, request, response, callback)` is the stub's asynchronous method.
template <typename Request, typename Response, typename Start>
void StartCall(CallSet& calls, absl::Duration timeout, Request request,
               WorkerLink::Done<Response> done, Start start) {
  auto call = std::make_shared<Call<Request, Response>>();
  SetDeadline(*call->context, timeout);
  call->request = std::move(request);
  call->done = std::move(done);
  call->ticket = calls.Add(call->context);
  start(call->context.get(), &call->request, &call->response, [call](grpc::Status status) {
    call->done(FromGrpc(status), call->response);
    call->context.reset();
    call->ticket.reset();
  });
}

constexpr absl::Duration kQuickCall = absl::Seconds(20);

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, int max_message_bytes) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(max_message_bytes);
  args.SetMaxSendMessageSize(max_message_bytes);
  // A process that comes back is seen at once, not after gRPC's minutes of backoff.
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // Processes of a cluster are never reached through a proxy.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Its own connection: a channel made anew must not inherit another one's backoff.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, ClusterChannelCredentials(address), args);
}

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(timeout));
}

std::unique_ptr<CallSet::Ticket> CallSet::Add(std::shared_ptr<grpc::ClientContext> context) {
  std::uint64_t id = 0;
  bool finishing = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    id = next_id_++;
    finishing = finishing_;
    contexts_.emplace(id, context);
  }
  if (finishing) context->TryCancel();
  return std::make_unique<Ticket>(this, id);
}

void CallSet::Remove(std::uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  contexts_.erase(id);
  if (contexts_.empty()) empty_.notify_all();
}

void CallSet::CancelAll() {
  std::vector<std::shared_ptr<grpc::ClientContext>> contexts;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, context] : contexts_) contexts.push_back(context);
  }
  for (const auto& context : contexts) context->TryCancel();
}

void CallSet::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
  }
  CancelAll();
  std::unique_lock<std::mutex> lock(mutex_);
  empty_.wait(lock, [this] { return contexts_.empty(); });
}

std::shared_ptr<StepStream> StepStream::Open(v1::Worker::Stub& stub, CallSet& calls,
                                             Handlers handlers) {
  std::shared_ptr<StepStream> stream(new StepStream(std::move(handlers)));
  stream->self_ = stream;
  stream->ticket_ = calls.Add(stream->context_);
  stub.async()->Steps(stream->context_.get(), stream.get());
  // Send and Close come from outside gRPC's own callbacks; Close takes it away.
  stream->AddHold();
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
  // May run OnWriteDone right here: no lock is held.
  StartWrite(&outgoing_);
}

void StepStream::OnWriteDone(bool ok) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    // The stream is broken, which OnReadDone says. writing_ stays: nothing is written any more.
    if (!ok) return;
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
  // Before the next read starts: it may end on another thread, and results come in order.
  handlers_.on_result(incoming_);
  StartRead(&incoming_);
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
  // Dies at the end of this function.
  const std::shared_ptr<StepStream> self = std::move(self_);
}

WorkerLink::WorkerLink(std::string name, std::string address)
    : name_(std::move(name)),
      address_(std::move(address)),
      stub_(v1::Worker::NewStub(OpenChannel(address_, kMaxMessageBytes))) {}

void WorkerLink::Describe(absl::Duration timeout, Done<v1::WorkerDescription> done) {
  StartCall(round_calls_, timeout, v1::DescribeRequest(), std::move(done),
            [this](auto* context, auto* request, auto* response, auto on_done) {
              stub_->async()->Describe(context, request, response, std::move(on_done));
            });
}

void WorkerLink::Prepare(v1::PrepareRequest request, absl::Duration timeout,
                         Done<v1::PrepareResponse> done) {
  StartCall(round_calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->Prepare(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::Connect(v1::ConnectRequest request, absl::Duration timeout,
                         Done<v1::ConnectResponse> done) {
  StartCall(round_calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->Connect(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::Ask(absl::Duration timeout, Done<v1::WorkerDescription> done) {
  StartCall(other_calls_, timeout, v1::DescribeRequest(), std::move(done),
            [this](auto* context, auto* request, auto* response, auto on_done) {
              stub_->async()->Describe(context, request, response, std::move(on_done));
            });
}

void WorkerLink::MeasureStages(v1::MeasureStagesRequest request, absl::Duration timeout,
                               Done<v1::StageCosts> done) {
  StartCall(other_calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->MeasureStages(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::RepeatStages(v1::RepeatStagesRequest request, absl::Duration timeout,
                              Done<v1::StageCosts> done) {
  StartCall(other_calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->RepeatStages(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::MeasureEdges(v1::MeasureEdgesRequest request, absl::Duration timeout,
                              Done<v1::EdgeCosts> done) {
  StartCall(other_calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->MeasureEdges(context, sent, response, std::move(on_done));
            });
}

std::shared_ptr<StepStream> WorkerLink::MeasureSteps(StepStream::Handlers handlers) {
  return StepStream::Open(*stub_, other_calls_, std::move(handlers));
}

void WorkerLink::Drain(std::uint64_t generation, absl::Duration timeout) {
  v1::DrainRequest request;
  request.set_generation(generation);
  StartCall(other_calls_, timeout, std::move(request),
            Done<v1::DrainResponse>([](const absl::Status&, const v1::DrainResponse&) {}),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->Drain(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::OpenSteps(StepStream::Handlers handlers) {
  CloseSteps();
  steps_ = StepStream::Open(*stub_, round_calls_, std::move(handlers));
}

void WorkerLink::Send(v1::StepRequest request) { steps_->Send(std::move(request)); }

void WorkerLink::CloseSteps() {
  if (steps_ != nullptr) std::exchange(steps_, nullptr)->Close();
}

void WorkerLink::Abandon() {
  CloseSteps();
  round_calls_.CancelAll();
}

void WorkerLink::Shutdown() {
  CloseSteps();
  round_calls_.Finish();
  other_calls_.Finish();
}

std::string ProgressText(const v1::LoadProgress& progress) {
  if (progress.bytes_total() == 0) return "loading";
  const auto percent = static_cast<int>(100.0 * static_cast<double>(progress.bytes_done()) /
                                        static_cast<double>(progress.bytes_total()));
  std::string text = absl::StrCat("loading ", percent, " %");
  if (progress.seconds_left() >= 1)
    absl::StrAppend(&text, ", ", static_cast<int>(progress.seconds_left() + 0.5), " s left");
  return text;
}

LoaderLink::LoaderLink(const std::string& address)
    : stub_(v1::Loader::NewStub(OpenChannel(address, kMaxModelMessageBytes))) {}

absl::StatusOr<v1::Model> LoaderLink::GetModel(absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(context, timeout);
  context.set_wait_for_ready(true);
  v1::Model model;
  const grpc::Status status = stub_->GetModel(&context, v1::GetModelRequest(), &model);
  if (!status.ok()) return FromGrpc(status);
  return model;
}

void LoaderLink::Load(std::vector<std::string> regions, absl::Duration timeout, Handlers handlers) {
  Stop();
  calls_ = std::make_unique<CallSet>();
  thread_ =
      std::thread([this, regions = std::move(regions), timeout, handlers = std::move(handlers)] {
        handlers.on_done(Run(regions, timeout, handlers));
      });
}

void LoaderLink::Stop() {
  if (!thread_.joinable()) return;
  calls_->Finish();
  thread_.join();
}

absl::Status LoaderLink::WaitUntilReady(absl::Duration timeout, const Handlers& handlers) {
  const auto context = std::make_shared<grpc::ClientContext>();
  SetDeadline(*context, timeout);
  const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
  const auto reader = stub_->Watch(context.get(), v1::WatchRequest());
  v1::LoadProgress progress;
  while (reader->Read(&progress)) {
    if (progress.state() == v1::LoadProgress::LOADING) handlers.on_progress(ProgressText(progress));
  }
  TANDEM_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  if (progress.state() == v1::LoadProgress::FAILED)
    return absl::FailedPreconditionError(progress.error());
  if (progress.state() != v1::LoadProgress::READY) {
    return absl::UnavailableError("the progress stream ended before the model was loaded");
  }
  return absl::OkStatus();
}

absl::StatusOr<LoaderLink::Loaded> LoaderLink::Run(const std::vector<std::string>& regions,
                                                   absl::Duration timeout,
                                                   const Handlers& handlers) {
  TANDEM_RETURN_IF_ERROR(WaitUntilReady(timeout, handlers));
  v1::Model model;
  {
    const auto context = std::make_shared<grpc::ClientContext>();
    SetDeadline(*context, kQuickCall);
    const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
    TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetModel(context.get(), v1::GetModelRequest(), &model)));
  }
  v1::GetRegionsRequest request;
  for (const std::string& region : regions) request.add_names(region);
  v1::GetRegionsResponse response;
  const auto context = std::make_shared<grpc::ClientContext>();
  SetDeadline(*context, kQuickCall);
  const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetRegions(context.get(), request, &response)));
  Loaded loaded;
  loaded.fingerprint = model.fingerprint();
  loaded.region_socket = model.region_socket();
  loaded.regions.assign(response.regions().begin(), response.regions().end());
  return loaded;
}

}  // namespace tandem
