#include "gateway/dispatch/worker_link.h"

#include <grpcpp/grpcpp.h>

#include <utility>

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

}  // namespace

WorkerLink::WorkerLink(std::string name, std::string role, std::string address)
    : name_(std::move(name)),
      role_(std::move(role)),
      address_(std::move(address)),
      stub_(v1::Worker::NewStub(OpenChannel(address_, kMaxMessageBytes))) {}

void WorkerLink::Describe(absl::Duration timeout, Done<v1::WorkerDescription> done) {
  StartCall(calls_, timeout, v1::DescribeRequest(), std::move(done),
            [this](auto* context, auto* request, auto* response, auto on_done) {
              stub_->async()->Describe(context, request, response, std::move(on_done));
            });
}

void WorkerLink::Prepare(v1::PrepareRequest request, absl::Duration timeout,
                         Done<v1::PrepareResponse> done) {
  StartCall(calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->Prepare(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::Connect(v1::ConnectRequest request, absl::Duration timeout,
                         Done<v1::ConnectResponse> done) {
  StartCall(calls_, timeout, std::move(request), std::move(done),
            [this](auto* context, auto* sent, auto* response, auto on_done) {
              stub_->async()->Connect(context, sent, response, std::move(on_done));
            });
}

void WorkerLink::OpenSteps(StepStream::Handlers handlers) {
  CloseSteps();
  steps_ = StepStream::Open(*stub_, calls_, std::move(handlers));
}

void WorkerLink::Send(v1::StepRequest request) { steps_->Send(std::move(request)); }

void WorkerLink::CloseSteps() {
  if (steps_ != nullptr) std::exchange(steps_, nullptr)->Close();
}

void WorkerLink::Abandon() {
  CloseSteps();
  calls_.CancelAll();
}

void WorkerLink::Shutdown() {
  CloseSteps();
  calls_.Finish();
}

}  // namespace tandem
