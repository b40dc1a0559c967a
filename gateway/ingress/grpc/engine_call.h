#pragma once

// Internal to grpc/: brings in gRPC.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/grpc/generation_record.h"
#include "gateway/ingress/grpc/server_call.h"
#include "lib/base/status_macros.h"

namespace tandem {

// A call that the engine answers, with one message or many: let in by its key, planned on a worker,
// and written as the answer's news come. What follows from news, from a write's end and from
// gRPC's cancelling is decided under one lock and done outside of it, since gRPC may call back at
// once.
template <typename Request, typename Response>
class EngineCall : public OneRequestCall<Request, Response> {
 public:
  void OnCancel() final {
    Step([this] { EndLocked(absl::CancelledError("the call was cancelled")); });
  }
  void OnDone() final {
    const std::shared_ptr<Core> core = core_;
    {
      const std::lock_guard<std::mutex> lock(core->mutex);
      core->call = nullptr;
    }
    OneRequestCall<Request, Response>::OnDone();
  }

 protected:
  struct Names {
    const char* method;          // "/tandem.v1.Inference/Generate"
    std::string_view endpoint;   // in the metrics: "grpc.Generate"
    std::string_view id_prefix;  // of answers: "gen-"
  };
  enum class Action { kNone, kCancel, kWrite, kWriteLast, kFinish };

  EngineCall(CallHost& host, grpc::CallbackServerContext* context, const Names& names)
      : OneRequestCall<Request, Response>(host, context, names.method),
        names_(names),
        record_(host, names.endpoint) {
    core_->call = this;
  }
  ~EngineCall() override = default;

  // Once, first.
  void Admit(const grpc::CallbackServerContext& context) {
    const absl::Status admitted = record_.Admit(context);
    if (admitted.ok()) {
      this->Receive();
    } else {
      Received(admitted);
    }
  }

  // On a worker, once, outside the lock: what is to be answered, by request().
  virtual absl::StatusOr<AnswerSpec> Plan(const Serving& serving) = 0;
  // Takes what has come and says what is to be done. Not asked while the request is being planned,
  // nor after kWriteLast (of an answer that has ended) or kFinish.
  virtual Action NextLocked() = 0;

  // Changes something under the lock, and does what follows from it.
  template <typename Change>
  void Step(Change change) {
    Action action = Action::kNone;
    {
      const std::lock_guard<std::mutex> lock(core_->mutex);
      change();
      action = LookLocked();
    }
    Perform(action);
  }

  // Only the first one counts.
  void EndLocked(const absl::Status& status) {
    if (ending_) return;
    ending_ = true;
    end_status_ = status;
    this->Ended(names_.endpoint, status);
    record_.End(status, answer_.get());
    answer_.reset();  // cancels what runs
  }

  // Set once, while planning.
  const Serving& serving() const { return *serving_; }
  // The rest under the lock. Null before it has begun and once the call ends.
  RunningAnswer* answer() { return answer_.get(); }
  GenerationRecord& record() { return record_; }
  bool ending() const { return ending_; }
  const absl::Status& end_status() const { return end_status_; }
  // gRPC's from kWrite until OnWriteDone.
  Response& response() { return response_; }

 private:
  // Outlives the call while a wake is under way.
  struct Core {
    std::mutex mutex;
    EngineCall* call = nullptr;  // null once the call is done
  };

  // Until the request is planned, nothing finishes the call, so it lives.
  void Received(const absl::Status& status) final {
    if (!status.ok()) return Planned(status);
    if (!this->host().Work([this] { PlanAnswer(); }))
      Planned(absl::UnavailableError("too many requests at a time"));
  }

  void PlanAnswer() {
    const auto plan = [this]() -> absl::StatusOr<AnswerSpec> {
      TANDEM_ASSIGN_OR_RETURN(serving_, this->host().backend.serving->Get());
      return Plan(*serving_);
    };
    absl::StatusOr<AnswerSpec> spec = plan();
    this->DropRequest();
    Planned(std::move(spec));
  }

  void Planned(absl::StatusOr<AnswerSpec> spec) {
    Step([&] {
      planning_ = false;
      absl::Status status = spec.status();
      if (status.ok() && !ending_) status = BeginLocked(*std::move(spec));
      if (!status.ok()) EndLocked(status);
    });
  }

  absl::Status BeginLocked(AnswerSpec spec) {
    record_.Name(names_.id_prefix, serving_->model.id, &spec.request);
    TANDEM_ASSIGN_OR_RETURN(
        answer_,
        RunningAnswer::Create(*serving_->engine, serving_->model.tokenizer, std::move(spec)));
    const std::weak_ptr<Core> weak = core_;
    return answer_->Start([weak, &host = this->host()] {
      host.post([weak] {
        const std::shared_ptr<Core> core = weak.lock();
        if (core == nullptr) return;
        Action action = Action::kNone;
        EngineCall* call = nullptr;
        {
          const std::lock_guard<std::mutex> lock(core->mutex);
          call = core->call;
          if (call != nullptr) action = call->LookLocked();
        }
        // A call with an action under way is not deleted: gRPC waits for the action's end.
        if (call != nullptr && action != Action::kNone) call->Perform(action);
      });
    });
  }

  Action LookLocked() {
    if (planning_ || finish_called_) return Action::kNone;
    const Action action = NextLocked();
    finish_called_ = action == Action::kWriteLast || action == Action::kFinish;
    return action;
  }

  void Perform(Action action) {
    switch (action) {
      case Action::kNone:
        return;
      case Action::kCancel:
        return this->timer().Cancel();
      case Action::kWrite:
        this->timer().Set(this->host().options.write_timeout);
        return this->StartWrite(&response_);
      case Action::kWriteLast:
        this->timer().Set(this->host().options.write_timeout);
        return this->StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
      case Action::kFinish:
        return this->Finish(ToGrpcStatus(end_status_));
    }
  }

  const std::shared_ptr<Core> core_ = std::make_shared<Core>();
  const Names names_;
  std::shared_ptr<const Serving> serving_;
  GenerationRecord record_;
  std::unique_ptr<RunningAnswer> answer_;
  Response response_;
  bool planning_ = true;  // no answer yet, and the request may be in use
  bool ending_ = false;   // the last action follows, or has been called
  bool finish_called_ = false;
  absl::Status end_status_;
};

}  // namespace tandem
