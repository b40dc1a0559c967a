#include "gateway/ingress/grpc/health_service.h"

#include <functional>
#include <optional>
#include <utility>

#include "grpc/health/v1/health.pb.h"

namespace tandem {
namespace {

namespace health = grpc::health::v1;
using HealthStatus = health::HealthCheckResponse::ServingStatus;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kService[] = "tandem.v1.Inference";

}  // namespace

// One question, and its answer once (Check) or as often as it changes (Watch). Owns itself.
class HealthCall final
    : public grpc::ServerBidiReactor<health::HealthCheckRequest, health::HealthCheckResponse> {
 public:
  HealthCall(CallHost& host, HealthService& service, grpc::CallbackServerContext* context,
             bool watches)
      : host_(host), service_(service), timer_(host.timers.Add(context)), watches_(watches) {
    watch_->call = this;
    timer_->Set(host_.options.read_timeout);
    host_.keyless_reads.Begin(timer_);
    StartRead(&request_);
  }

  // `change` looks at the call unless it is done; then what follows is done.
  static void Change(const std::shared_ptr<HealthWatch>& watch,
                     const std::function<void(HealthCall&)>& change);
  void Refresh() {
    if (known_) wanted_ = Now();
  }
  void Finishes(const grpc::Status& status) {
    if (!end_.has_value()) end_ = status;
  }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override {
    Change(watch_, [](HealthCall& call) { call.Finishes(grpc::Status::CANCELLED); });
  }
  void OnDone() override;

 private:
  enum class Action { kNone, kWrite, kWriteLast, kFinish };

  HealthStatus Now() const {
    return service_.serving() ? health::HealthCheckResponse::SERVING
                              : health::HealthCheckResponse::NOT_SERVING;
  }
  void Answer();
  Action NextLocked();
  void Perform(Action action);

  CallHost& host_;
  HealthService& service_;
  const std::shared_ptr<CallTimer> timer_;
  const bool watches_;
  const std::shared_ptr<HealthWatch> watch_ = std::make_shared<HealthWatch>();
  // Guarded by watch_->mutex; the messages belong to gRPC while it reads or writes them.
  health::HealthCheckRequest request_;
  health::HealthCheckResponse response_;
  bool known_ = false;  // asked about a service that there is
  std::optional<HealthStatus> wanted_;
  std::optional<HealthStatus> sent_;
  std::optional<grpc::Status> end_;
  bool writing_ = false;
  bool finish_called_ = false;
};

void HealthCall::Change(const std::shared_ptr<HealthWatch>& watch,
                        const std::function<void(HealthCall&)>& change) {
  const std::shared_ptr<HealthWatch> kept = watch;
  HealthCall* call = nullptr;
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(kept->mutex);
    call = kept->call;
    if (call == nullptr) return;
    change(*call);
    action = call->NextLocked();
  }
  // A call with an action under way is not deleted: gRPC waits for the action's end.
  if (action != Action::kNone) call->Perform(action);
}

void HealthCall::OnReadDone(bool ok) {
  timer_->Clear();
  host_.keyless_reads.End(timer_);
  const bool open = !watches_ || service_.Add(watch_);
  Change(watch_, [ok, open](HealthCall& call) {
    if (!ok) {
      call.Finishes({grpc::StatusCode::INVALID_ARGUMENT, "expected one request message"});
    } else if (!open) {
      call.Finishes({grpc::StatusCode::UNAVAILABLE, "the server is shutting down"});
    } else {
      call.Answer();
    }
  });
}

void HealthCall::Answer() {
  known_ = request_.service().empty() || request_.service() == kService;
  request_ = health::HealthCheckRequest();
  if (known_) {
    wanted_ = Now();
  } else if (watches_) {
    wanted_ = health::HealthCheckResponse::SERVICE_UNKNOWN;
  } else {
    Finishes({grpc::StatusCode::NOT_FOUND, "no such service"});
  }
}

HealthCall::Action HealthCall::NextLocked() {
  if (writing_ || finish_called_) return Action::kNone;
  if (end_.has_value()) {
    finish_called_ = true;
    return Action::kFinish;
  }
  if (wanted_ == sent_) return Action::kNone;
  sent_ = wanted_;
  response_.set_status(*wanted_);
  writing_ = watches_;
  finish_called_ = !watches_;
  return watches_ ? Action::kWrite : Action::kWriteLast;
}

// Outside the lock: gRPC may call back at once.
void HealthCall::Perform(Action action) {
  if (action == Action::kFinish) return Finish(*end_);
  timer_->Set(host_.options.write_timeout);
  if (action == Action::kWrite) return StartWrite(&response_);
  StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
}

void HealthCall::OnWriteDone(bool ok) {
  timer_->Clear();
  Change(watch_, [ok](HealthCall& call) {
    call.writing_ = false;
    if (!ok) call.Finishes(grpc::Status::CANCELLED);
  });
}

void HealthCall::OnDone() {
  {
    const std::lock_guard<std::mutex> lock(watch_->mutex);
    watch_->call = nullptr;
  }
  timer_->Forget();
  host_.keyless_reads.End(timer_);
  delete this;
}

HealthService::HealthService(CallHost& host) {
  using Handler =
      grpc::internal::CallbackBidiHandler<health::HealthCheckRequest, health::HealthCheckResponse>;
  int index = 0;
  for (const char* name : {kCheck, kWatch}) {
    AddMethod(new grpc::internal::RpcServiceMethod(name, grpc::internal::RpcMethod::BIDI_STREAMING,
                                                   nullptr));
    const bool watches = name == kWatch;
    MarkMethodCallback(index++,
                       new Handler([this, &host, watches](grpc::CallbackServerContext* context) {
                         return new HealthCall(host, *this, context, watches);
                       }));
  }
}

bool HealthService::serving() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return serving_;
}

bool HealthService::Add(const std::shared_ptr<HealthWatch>& watch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return false;
  std::erase_if(watches_, [](const auto& other) { return other.expired(); });
  watches_.push_back(watch);
  return true;
}

std::vector<std::shared_ptr<HealthWatch>> HealthService::Watches() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<HealthWatch>> watches;
  for (const std::weak_ptr<HealthWatch>& weak : watches_) {
    if (std::shared_ptr<HealthWatch> watch = weak.lock()) watches.push_back(std::move(watch));
  }
  return watches;
}

void HealthService::Set(bool serving) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    serving_ = serving && !ended_;
  }
  for (const auto& watch : Watches()) HealthCall::Change(watch, [](auto& call) { call.Refresh(); });
}

void HealthService::End() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    serving_ = false;
    ended_ = true;
  }
  const grpc::Status end(grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
  for (const auto& watch : Watches())
    HealthCall::Change(watch, [&end](auto& call) { call.Finishes(end); });
}

}  // namespace tandem
