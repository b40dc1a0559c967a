// The engine thread: messages in, decisions by the coordinator, calls and deliveries out.
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/dispatch/cluster_impl.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"
#include "lib/wire/step_wire.h"

namespace tandem {

absl::Duration Cluster::Impl::Now() { return Clock::Real().Uptime(); }

void Cluster::Impl::Post(Message message) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    inbox_.push_back(std::move(message));
  }
  wake_.notify_one();
}

void Cluster::Impl::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  coordinator_.Start(Now());
  while (!stop_) {
    Coordinator::Effects effects = coordinator_.Take(Now());
    std::vector<Delivery> deliveries = Collect(effects);
    lock.unlock();
    for (const RecoveryAction& action : effects.actions) Act(action);
    if (effects.step.has_value()) SendStep(effects);
    Deliver(std::move(deliveries));  // while the step runs
    lock.lock();
    WaitForWork(lock);
    const std::vector<Message> messages = std::exchange(inbox_, {});
    for (const Message& message : messages) message(Now());
    coordinator_.OnTime(Now());
  }
  lock.unlock();
  for (const auto& link : links_) link->Abandon();
  FailRemaining();
}

void Cluster::Impl::WaitForWork(std::unique_lock<std::mutex>& lock) {
  const auto ready = [this] { return stop_ || woken_ || !inbox_.empty(); };
  const std::optional<absl::Duration> deadline = coordinator_.next_deadline();
  if (deadline.has_value()) {
    wake_.wait_for(
        lock, absl::ToChronoMicroseconds(*deadline - Now()) + std::chrono::microseconds(1), ready);
  } else {
    wake_.wait(lock, ready);
  }
  woken_ = false;
}

// Under the lock.
std::vector<Cluster::Impl::Delivery> Cluster::Impl::Collect(Coordinator::Effects& effects) {
  const absl::Duration now = Now();
  for (const Coordinator::StepDone& step : effects.steps_done) {
    metrics_.Step(step.seconds, step.decode_tokens, step.prefill_tokens);
    decode_rate_.Add(step.decode_tokens, now);
    prefill_rate_.Add(step.prefill_tokens, now);
  }
  metrics_.Requests(coordinator_.scheduler().running(), coordinator_.scheduler().waiting());
  std::vector<Delivery> deliveries;
  deliveries.reserve(effects.events.size());
  for (RequestEvent& event : effects.events) {
    const auto it = sinks_.find(event.request);
    TANDEM_CHECK(it != sinks_.end());
    if (event.kind == RequestEvent::Kind::kToken) ++tokens_total_;
    const bool last = event.kind == RequestEvent::Kind::kFinish;
    deliveries.push_back({std::move(event), it->second});
    if (last) sinks_.erase(it);
  }
  return deliveries;
}

void Cluster::Impl::Deliver(std::vector<Delivery> deliveries) {
  for (Delivery& delivery : deliveries) {
    switch (delivery.event.kind) {
      case RequestEvent::Kind::kPromptScores:
        delivery.sink->OnPromptScores(std::move(delivery.event.scores));
        break;
      case RequestEvent::Kind::kToken:
        delivery.sink->OnToken(delivery.event.token);
        break;
      case RequestEvent::Kind::kFinish:
        delivery.sink->OnFinish(delivery.event.reason, delivery.event.status);
        break;
    }
  }
}

void Cluster::Impl::FailRemaining() {
  std::unordered_map<std::uint64_t, std::shared_ptr<GenerationSink>> sinks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sinks = std::exchange(sinks_, {});
  }
  for (const auto& [handle, sink] : sinks)
    sink->OnFinish(FinishReason::kError, absl::UnavailableError("the gateway is stopping"));
}

void Cluster::Impl::SendStep(const Coordinator::Effects& effects) {
  StepPlan plan = *effects.step;
  plan.generation = effects.generation;
  plan.timeout = setup_.options.step_timeout;
  v1::StepRequest request;
  *request.mutable_step() = ToProto(plan);
  for (std::size_t i = 1; i < links_.size(); ++i) links_[i]->Send(request);
  links_[0]->Send(std::move(request));
}

// On one of gRPC's threads: the message is read there, the engine thread gets plain data.
void Cluster::Impl::OnStepResult(std::uint64_t round, std::size_t worker,
                                 const v1::StepResult& result) {
  StepReply reply;
  reply.round = round;
  reply.worker = worker;
  absl::StatusOr<StepResult> parsed = FromProto(result, setup_.model.config.vocab_size);
  if (parsed.ok()) {
    reply.result = *std::move(parsed);
    reply.status = reply.result.status;
  } else {
    reply.status = absl::InternalError(parsed.status().message());
  }
  reply.result.step_id = result.step_id();
  auto shared = std::make_shared<StepReply>(std::move(reply));
  Post([this, shared, worker, run = result.run_seconds(),
        wait = result.wait_seconds()](absl::Duration now) {
    metrics_.Worker(setup_.workers[worker].name, known_[worker].description.device().name(), run,
                    wait);
    coordinator_.OnStepReply(std::move(*shared), now);
  });
}

}  // namespace tandem
