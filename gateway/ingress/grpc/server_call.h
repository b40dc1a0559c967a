#pragma once

// Internal to grpc/: brings in gRPC.

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/service_type.h>

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/grpc/grpc_listener.h"
#include "gateway/ingress/grpc/grpc_server.h"
#include "gateway/ingress/request/error.h"

namespace tandem {

grpc::Status ToGrpcStatus(const absl::Status& status);
// "RESOURCE_EXHAUSTED"
std::string_view GrpcCodeName(grpc::StatusCode code);

// Cancels a call that keeps the server waiting too long: for a message that is half sent, or for
// somebody to read the answer. Thread-safe.
class CallTimer {
 public:
  using Clock = std::chrono::steady_clock;

  explicit CallTimer(grpc::CallbackServerContext* context) : context_(context) {}
  // From now; replaces what was set.
  void Set(absl::Duration limit) { due_ = Clock::now() + absl::ToChronoNanoseconds(limit); }
  void Clear() { due_ = Clock::time_point::max(); }
  // The call is done: its context goes.
  void Forget();
  void Cancel();
  bool IsDue(Clock::time_point now) const { return due_.load() <= now; }

 private:
  std::atomic<Clock::time_point> due_ = Clock::time_point::max();
  std::mutex mutex_;
  grpc::CallbackServerContext* context_;
};

// The timers of all calls. Thread-safe.
class CallTimers {
 public:
  std::shared_ptr<CallTimer> Add(grpc::CallbackServerContext* context);
  // Cancels what is due; called now and then.
  void Look();

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<CallTimer>> timers_;
};

// Reads of calls that need no key. Whoever begins to send a message may take the memory for the
// longest one, which is all callers' together: for one more than kMost, the oldest call is
// cancelled. An honest one has sent its few bytes with its head. Thread-safe.
class KeylessReads {
 public:
  static constexpr std::size_t kMost = 8;

  void Begin(const std::shared_ptr<CallTimer>& call);
  void End(const std::shared_ptr<CallTimer>& call);

 private:
  std::mutex mutex_;
  std::deque<std::shared_ptr<CallTimer>> calls_;
};

// What every call needs of the server.
class CallHost {
 public:
  CallHost(const GrpcBackend& given, const GrpcServerOptions& limits)
      : backend(given), options(limits), workers_(static_cast<std::size_t>(limits.workers)) {}

  // What the caller's metadata allow: looked at before a byte of the message is asked for.
  absl::Status Authorize(const grpc::CallbackServerContext& context, KeyScope scope) const;
  // The same for a call that the key's limits count.
  absl::StatusOr<KeyUse> Admit(const grpc::CallbackServerContext& context) const;
  // Runs `work` on a thread that may take its time. False: too much waits for one already.
  bool Work(std::function<void()> work);
  // Takes `bytes` of the memory for messages, which Release gives back. UNAVAILABLE while others
  // have it, RESOURCE_EXHAUSTED where it would never do.
  absl::Status Hold(std::size_t bytes);
  void Release(std::size_t bytes) { held_ -= bytes; }
  // From the request's message to the call's end: connections with calls are not closed for others.
  void CallBegan(const grpc::CallbackServerContext& context);
  void CallEnded(const grpc::CallbackServerContext& context);
  // Waits for all of it.
  void Join() { workers_.join(); }

  const GrpcBackend& backend;
  const GrpcServerOptions& options;
  CallTimers timers;
  KeylessReads keyless_reads;
  // Hands work to the thread that writes answers; an engine's thread may only pass on news.
  std::function<void(std::function<void()>)> post;
  GrpcListener* listener = nullptr;

 private:
  std::atomic<int> waiting_ = 0;
  std::atomic<std::size_t> held_ = 0;
  boost::asio::thread_pool workers_;
};

// For an access log.
std::string JsonOf(const google::protobuf::Message& message);

// Metadata of the caller under `name`; empty where there are none.
std::string MetadataOf(const grpc::CallbackServerContext& context, const char* name);

// A call with one request. To gRPC it is a stream both ways, though its service declares it
// otherwise: on the wire that is the same, but gRPC then hands a call over when its metadata are
// there, and reads no message before it is asked to. Owns itself: gRPC deletes it through OnDone.
template <typename Request, typename Response>
class OneRequestCall : public grpc::ServerBidiReactor<Request, Response> {
 public:
  void OnReadDone(bool ok) final {
    timer_->Clear();
    if (!ok) {
      return Received(absl::InvalidArgumentError("expected one request message, found none"));
    }
    began_ = true;
    host_.CallBegan(*context_);
    if (host_.options.keep_bodies) exchange_.body = JsonOf(request_);
    const std::size_t bytes = request_.SpaceUsedLong();
    const absl::Status held = host_.Hold(bytes);
    if (held.ok()) held_ = bytes;
    if (!held.ok()) DropRequest();
    Received(held);
  }
  void OnDone() override {
    timer_->Forget();
    DropRequest();
    if (began_) host_.CallEnded(*context_);
    if (host_.options.on_exchange) {
      exchange_.time = absl::FromChrono(std::chrono::steady_clock::now() - begin_);
      host_.options.on_exchange(exchange_);
    }
    delete this;
  }

 protected:
  // `method` as gRPC has it: "/tandem.v1.Inference/Generate".
  OneRequestCall(CallHost& host, grpc::CallbackServerContext* context, std::string_view method)
      : host_(host), context_(context), timer_(host.timers.Add(context)) {
    exchange_.method = std::string(method);
    exchange_.id = RequestId(MetadataOf(*context, "x-request-id"));
    context->AddInitialMetadata("x-request-id", exchange_.id);
  }
  ~OneRequestCall() override = default;

  // Once, before Finish: metrics count it under `endpoint`, unless that is empty.
  void Ended(std::string_view endpoint, const absl::Status& status) {
    exchange_.code = GrpcCodeName(ToGrpcStatus(status).error_code());
    if (endpoint.empty()) return;
    host_.backend.metrics->CountRequest(endpoint, exchange_.code, RejectionReason(status));
  }

  // Received follows, with request() there unless it brings an error.
  void Receive() {
    timer_->Set(host_.options.read_timeout);
    this->StartRead(&request_);
  }
  virtual void Received(const absl::Status& status) = 0;

  const Request& request() const { return request_; }
  // It is not looked at any more: an answer may take long, and somebody may be slow to read it.
  void DropRequest() {
    request_ = Request();
    host_.Release(std::exchange(held_, 0));
  }
  CallHost& host() const { return host_; }
  CallTimer& timer() const { return *timer_; }

 private:
  CallHost& host_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<CallTimer> timer_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  GrpcExchange exchange_;
  Request request_;
  std::size_t held_ = 0;
  bool began_ = false;
};

// A call with one answer, which `answer` makes; on a worker where it may take long.
template <typename Request, typename Response>
class UnaryCall final : public OneRequestCall<Request, Response> {
 public:
  using Function = std::function<absl::Status(const Request& request, Response& response)>;
  struct Method {
    const char* name;             // "/tandem.v1.Inference/Tokenize"; lives as long as the program
    std::string_view counted_as;  // in the metrics; empty: it is not counted
    // Takes a worker's time, and is counted by the key's limits.
    bool slow = false;
    KeyScope scope = KeyScope::kInference;
    Function answer;
  };

  // `method` outlives the call.
  static UnaryCall* Start(CallHost& host, grpc::CallbackServerContext* context,
                          const Method& method) {
    auto* call = new UnaryCall(host, context, method);
    absl::Status allowed = host.Authorize(*context, method.scope);
    if (allowed.ok() && method.slow && method.scope == KeyScope::kInference) {
      absl::StatusOr<KeyUse> key = host.Admit(*context);
      allowed = key.status();
      if (key.ok()) call->key_ = *std::move(key);
    }
    if (allowed.ok()) {
      call->Receive();
    } else {
      call->End(allowed);
    }
    return call;
  }

 private:
  UnaryCall(CallHost& host, grpc::CallbackServerContext* context, const Method& method)
      : OneRequestCall<Request, Response>(host, context, method.name), method_(method) {}

  void Received(const absl::Status& status) override {
    if (!status.ok()) return End(status);
    if (!method_.slow) return Answer();
    if (!this->host().Work([this] { Answer(); }))
      End(absl::UnavailableError("too many requests at a time"));
  }

  void Answer() {
    const absl::Status status = method_.answer(this->request(), response_);
    this->DropRequest();
    End(status);
  }

  // Once: until then gRPC does not delete the call.
  void End(const absl::Status& status) {
    this->Ended(method_.counted_as, status);
    if (!status.ok()) return this->Finish(ToGrpcStatus(status));
    this->timer().Set(this->host().options.write_timeout);
    this->StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  const Method& method_;
  KeyUse key_;
  Response response_;
};

}  // namespace tandem
