#include "gateway/ingress/grpc/server_call.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <string>

#include "lib/base/status_macros.h"

namespace tandem {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // Both use the canonical codes. OUT_OF_RANGE is a caller's mistake too.
  auto code = static_cast<grpc::StatusCode>(status.code());
  if (absl::IsOutOfRange(status)) code = grpc::StatusCode::INVALID_ARGUMENT;
  return grpc::Status(code, std::string(status.message()));
}

std::string_view GrpcCodeName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return "OK";
    case grpc::StatusCode::CANCELLED:
      return "CANCELLED";
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case grpc::StatusCode::NOT_FOUND:
      return "NOT_FOUND";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::UNAVAILABLE:
      return "UNAVAILABLE";
    case grpc::StatusCode::PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "UNAUTHENTICATED";
    case grpc::StatusCode::INTERNAL:
      return "INTERNAL";
    default:
      return "OTHER";
  }
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
