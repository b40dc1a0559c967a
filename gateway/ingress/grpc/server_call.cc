#include "gateway/ingress/grpc/server_call.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <string>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // Both use the canonical codes. OUT_OF_RANGE is a caller's mistake too.
  auto code = static_cast<grpc::StatusCode>(status.code());
  if (absl::IsOutOfRange(status)) code = grpc::StatusCode::INVALID_ARGUMENT;
  return grpc::Status(code, std::string(status.message()));
}

std::string_view GrpcCodeName(grpc::StatusCode code) {
  // In the order of their numbers.
  static constexpr std::string_view kNames[] = {
      "OK",
      "CANCELLED",
      "UNKNOWN",
      "INVALID_ARGUMENT",
      "DEADLINE_EXCEEDED",
      "NOT_FOUND",
      "ALREADY_EXISTS",
      "PERMISSION_DENIED",
      "RESOURCE_EXHAUSTED",
      "FAILED_PRECONDITION",
      "ABORTED",
      "OUT_OF_RANGE",
      "UNIMPLEMENTED",
      "INTERNAL",
      "UNAVAILABLE",
      "DATA_LOSS",
      "UNAUTHENTICATED",
  };
  const auto number = static_cast<std::size_t>(code);
  return number < std::size(kNames) ? kNames[number] : "UNKNOWN";
}

void CallTimer::Forget() {
  const std::lock_guard<std::mutex> lock(mutex_);
  context_ = nullptr;
}

void CallTimer::Cancel() {
  Clear();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

std::shared_ptr<CallTimer> CallTimers::Add(grpc::CallbackServerContext* context) {
  auto timer = std::make_shared<CallTimer>(context);
  const std::lock_guard<std::mutex> lock(mutex_);
  timers_.push_back(timer);
  return timer;
}

void CallTimers::Look() {
  const auto now = CallTimer::Clock::now();
  std::vector<std::shared_ptr<CallTimer>> due;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(timers_, [](const auto& timer) { return timer.expired(); });
    for (const auto& weak : timers_) {
      std::shared_ptr<CallTimer> timer = weak.lock();
      if (timer != nullptr && timer->IsDue(now)) due.push_back(std::move(timer));
    }
  }
  for (const auto& timer : due) timer->Cancel();
}

void KeylessReads::Begin(const std::shared_ptr<CallTimer>& call) {
  std::shared_ptr<CallTimer> oldest;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_.push_back(call);
    if (calls_.size() <= kMost) return;
    oldest = std::move(calls_.front());
    calls_.pop_front();
  }
  oldest->Cancel();
}

void KeylessReads::End(const std::shared_ptr<CallTimer>& call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase(calls_, call);
}

namespace {

absl::StatusOr<std::string> AuthorizationOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto [found, end] = metadata.equal_range("authorization");
  if (found == end) return "";
  // Of two, somebody in between may have looked at the other one.
  if (std::next(found) != end)
    return absl::UnauthenticatedError("expected one entry 'authorization', found several");
  return std::string(found->second.data(), found->second.size());
}

}  // namespace

std::string JsonOf(const google::protobuf::Message& message) {
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(message, &json);
  return printed.ok() ? json : "";
}

std::string MetadataOf(const grpc::CallbackServerContext& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return "";
  return std::string(found->second.data(), found->second.size());
}

absl::Status CallHost::Authorize(const grpc::CallbackServerContext& context, KeyScope scope) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string authorization, AuthorizationOf(context));
  return backend.keys->Check(authorization, scope);
}

absl::StatusOr<KeyUse> CallHost::Admit(const grpc::CallbackServerContext& context) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string authorization, AuthorizationOf(context));
  return backend.keys->Admit(authorization);
}

void CallHost::CallBegan(const grpc::CallbackServerContext& context) {
  listener->CallBegan(context.peer());
}

void CallHost::CallEnded(const grpc::CallbackServerContext& context) {
  listener->CallEnded(context.peer());
}

absl::Status CallHost::Hold(std::size_t bytes) {
  const std::size_t most = options.max_request_memory;
  if (bytes > most) {
    return WithRejectionReason(
        absl::ResourceExhaustedError(Cat("the message: expected one that takes at most ", most,
                                         " bytes of memory, found ", bytes)),
        "too_large");
  }
  if (held_.fetch_add(bytes) + bytes <= most) return absl::OkStatus();
  held_ -= bytes;
  return absl::UnavailableError("too many large requests at a time");
}

bool CallHost::Work(std::function<void()> work) {
  if (waiting_.fetch_add(1) >= options.max_waiting_requests) {
    --waiting_;
    return false;
  }
  boost::asio::post(workers_, [this, work = std::move(work)] {
    work();
    --waiting_;
  });
  return true;
}

}  // namespace tandem
