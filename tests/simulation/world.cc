#include "tests/simulation/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

constexpr absl::Duration kArrivals = absl::Seconds(20);
constexpr absl::Duration kPatience = absl::Seconds(600);
// So often in a row no request is hit by chance.
constexpr std::int32_t kReplaysThatSuffice = 30;
constexpr std::int64_t kMostEvents = 400'000;

}  // namespace

World::World(std::uint64_t seed, WorldOptions options) : random_(seed), options_(options) {
  RecoveryOptions recovery;
  for (std::int32_t i = 0; i < options_.workers; ++i)
    recovery.workers.push_back(absl::StrCat("worker", i));
  recovery.step_timeout = absl::Seconds(Pick(1, 5));
  recovery.describe_timeout = absl::Seconds(1);
  recovery.prepare_timeout = absl::Seconds(3);
  recovery.connect_timeout = absl::Seconds(2);
  recovery.load_timeout = absl::Seconds(10);

  SchedulerOptions& scheduler = scheduler_options_;
  scheduler.limits.max_sequences = static_cast<std::int32_t>(Pick(1, 6));
  scheduler.limits.max_tokens =
      scheduler.limits.max_sequences + static_cast<std::int32_t>(Pick(0, 40));
  scheduler.limits.max_logit_rows =
      scheduler.limits.max_sequences + static_cast<std::int32_t>(Pick(0, 20));
  scheduler.limits.max_blocks_per_sequence = 16;
  scheduler.context_tokens = 160;
  scheduler.vocab_size = model_.vocab_size;
  scheduler.hidden_size = model_.hidden_size;
  scheduler.sliding_window = static_cast<std::int32_t>(Pick(1, 50));
  scheduler.global_blocks = static_cast<std::int32_t>(Pick(10, 40));
  scheduler.window_blocks = static_cast<std::int32_t>(Pick(10, 40));
  scheduler.max_waiting = static_cast<std::int32_t>(Pick(2, 30));
  scheduler.mixed_prefill_tokens = static_cast<std::int32_t>(Pick(1, 20));
  scheduler.max_replays = Pick(0, 1) == 0 ? 3 : kReplaysThatSuffice;
  scheduler.steps_in_flight = options_.steps_in_flight > 0
                                  ? options_.steps_in_flight
                                  : 1 + static_cast<std::int32_t>(seed % 4);
  scheduler.micro_batches = static_cast<std::int32_t>(Pick(1, 3));
  scheduler.min_micro_batch_tokens = static_cast<std::int32_t>(Pick(1, 8));
  scheduler.eos_ids = {model_.eos_id};
  auto plan = std::make_shared<ClusterPlan>();
  plan->name = "all";
  plan->members.assign(static_cast<std::size_t>(options_.workers), 1);
  plan->head = static_cast<std::size_t>(options_.workers - 1);
  plan->micro_batches = scheduler.micro_batches;
  if (options_.routes) plan->prefill_micro_batches = static_cast<std::int32_t>(Pick(1, 3));
  scheduler.prefill_micro_batches = plan->prefill_micro_batches;
  scheduler.limits.max_decode_tokens = DecodeTokens(*plan);
  coordinator_ = std::make_unique<Coordinator>(std::move(recovery), scheduler, std::move(plan));
  workers_.resize(static_cast<std::size_t>(options_.workers));
}

std::int64_t World::Pick(std::int64_t least, std::int64_t most) {
  return std::uniform_int_distribution<std::int64_t>(least, most)(random_);
}
bool World::Chance(double probability) {
  return std::uniform_real_distribution<>(0, 1)(random_) < probability;
}

void World::At(absl::Duration at, std::function<void()> run) {
  events_.push({at, order_++, std::move(run)});
}

void World::Broken(const std::string& what) {
  if (error_.empty()) error_ = absl::StrCat("at ", absl::FormatDuration(now_), ": ", what);
}

std::string World::Run() {
  ScheduleArrivals();
  ScheduleFaults();
  coordinator_->Start(now_);
  Pump();
  std::int64_t count = 0;
  while (error_.empty()) {
    const std::optional<absl::Duration> deadline = coordinator_->next_deadline();
    if (events_.empty() && !deadline.has_value()) break;
    if (++count > kMostEvents || now_ > kPatience) {
      Broken("no end");
      break;
    }
    if (events_.empty() || (deadline.has_value() && *deadline <= events_.top().at)) {
      now_ = std::max(now_, *deadline);
      coordinator_->OnTime(now_);
    } else {
      Event event = events_.top();
      events_.pop();
      now_ = event.at;
      event.run();
    }
    Pump();
  }
  if (error_.empty()) CheckEnd();
  tally_.recoveries = static_cast<std::int64_t>(coordinator_->recovery().recoveries());
  return error_;
}

void World::ScheduleArrivals() {
  // Now and then all come at once.
  const std::int64_t last = Chance(0.4) ? 400 : absl::ToInt64Milliseconds(kArrivals);
  for (std::int32_t i = 0; i < options_.requests; ++i) {
    const std::uint64_t id = static_cast<std::uint64_t>(i);
    const absl::Duration at = absl::Milliseconds(Pick(200, last));
    At(at, [this, id] { Submit(id); });
    if (Chance(0.15)) {
      At(at + absl::Milliseconds(Pick(0, 3000)), [this, id] {
        if (!coordinator_->Cancel(id) && clients_.contains(id) && !clients_[id].finished &&
            !clients_[id].refused) {
          Broken(absl::StrCat("request ", id, " cannot be cancelled"));
        }
      });
    }
  }
}

void World::ScheduleFaults() {
  faults_end_ = kArrivals;
  for (std::int32_t i = 0; i < options_.worker_deaths; ++i) {
    const std::size_t worker = static_cast<std::size_t>(Pick(0, options_.workers - 1));
    const absl::Duration at = absl::Milliseconds(Pick(0, absl::ToInt64Milliseconds(kArrivals)));
    const bool outlasts = options_.long_outages && Chance(0.5);
    const absl::Duration outage =
        absl::Milliseconds(outlasts ? Pick(61'000, 90'000) : Pick(1, 8000));
    faults_end_ = std::max(faults_end_, at + outage);
    At(at, [this, worker, outage] { Kill(worker, outage); });
  }
  for (std::int32_t i = 0; i < options_.plan_changes; ++i) {
    const absl::Duration at = absl::Milliseconds(Pick(0, absl::ToInt64Milliseconds(kArrivals)));
    At(at, [this] {
      const bool changing = coordinator_->recovery().changing();
      if (coordinator_->ChangePlan(RandomPlan()).ok() == changing)
        Broken("a change was refused, or two were taken");
    });
  }
  for (std::int32_t i = 0; i < options_.loader_deaths; ++i) {
    const absl::Duration at = absl::Milliseconds(Pick(0, absl::ToInt64Milliseconds(kArrivals)));
    At(at, [this] { loader_alive_ = false; });
    At(at + absl::Milliseconds(Pick(1, 5000)), [this] { loader_alive_ = true; });
  }
}

SharedPlan World::RandomPlan() {
  auto plan = std::make_shared<ClusterPlan>();
  for (std::int32_t i = 0; i < options_.workers; ++i) plan->members.push_back(Chance(0.6) ? 1 : 0);
  plan->head = static_cast<std::size_t>(Pick(0, options_.workers - 1));
  plan->members[plan->head] = 1;
  plan->micro_batches = static_cast<std::int32_t>(Pick(1, 3));
  if (options_.routes) plan->prefill_micro_batches = static_cast<std::int32_t>(Pick(0, 3));
  return plan;
}

// Where prompts have a route of their own, decodes may have less room than they.
std::int32_t World::DecodeTokens(const ClusterPlan& plan) {
  const StepLimits& limits = scheduler_options_.limits;
  if (plan.prefill_micro_batches == 0 || Chance(0.3)) return 0;
  return static_cast<std::int32_t>(Pick(limits.max_sequences, limits.max_tokens));
}

// As a plan with other devices has another cache, and other bounds of tokens; the cache is never
// too small for what waits.
void World::Resize() {
  SchedulerOptions& o = scheduler_options_;
  o.global_blocks += static_cast<std::int32_t>(Pick(0, 3));
  o.window_blocks += static_cast<std::int32_t>(Pick(0, 3));
  const ClusterPlan& plan = *coordinator_->recovery().plan();
  if (options_.routes) {
    const std::int32_t before = o.limits.max_tokens;
    o.limits.max_tokens = o.limits.max_sequences + static_cast<std::int32_t>(Pick(0, 80));
    o.window_blocks += std::max(0, o.limits.max_tokens - before) / kKvBlockTokens + 1;
    o.limits.max_decode_tokens = DecodeTokens(plan);
  }
  coordinator_->Resize({o.global_blocks, o.window_blocks, plan.micro_batches,
                        plan.prefill_micro_batches, o.limits.max_tokens,
                        o.limits.max_decode_tokens});
}

void World::Submit(std::uint64_t id) {
  Client& client = clients_[id];
  GenerationRequest& request = client.request;
  request.score_prompt = Chance(0.2);
  request.pool_prompt = Chance(0.2);
  request.max_tokens =
      static_cast<std::int32_t>(Pick(request.score_prompt || request.pool_prompt ? 0 : 1, 60));
  request.ignore_eos = Chance(0.5);
  request.sampling.seed = static_cast<std::uint64_t>(Pick(0, 1000));
  if (Chance(0.4)) {
    request.sampling.constraint = std::make_shared<const Constraint>(
        Constraint{.grammar = "root ::= .*", .stop_tokens = {model_.eos_id}});
  }
  if (Chance(options_.poisoned)) {
    const auto last = static_cast<std::int64_t>(options_.poisons.size()) - 1;
    const Poison poison{options_.poisons[static_cast<std::size_t>(Pick(0, last))],
                        static_cast<std::int32_t>(Pick(0, 100))};
    request.sampling.seed = PoisonedSeed(request.sampling.seed, poison);
  }
  const std::int64_t length = Pick(1, 90);
  for (std::int64_t i = 0; i < length; ++i) {
    request.prompt.push_back(static_cast<std::int32_t>(Pick(2, model_.vocab_size - 1)));
  }
  const absl::Status status = coordinator_->Submit(id, request);
  client.refused = !status.ok();
  tally_.refused += client.refused ? 1 : 0;
  if (absl::IsInvalidArgument(status)) Broken(std::string(status.message()));
  if (absl::IsUnavailable(status) && coordinator_->recovery().serving())
    Broken("refused while serving");
}

void World::Kill(std::size_t index, absl::Duration outage) {
  SimWorker& worker = workers_[index];
  worker.alive = false;
  worker.generation = 0;
  worker.connected = false;
  worker.state.reset();
  const std::uint64_t incarnation = ++worker.incarnation;
  const std::uint64_t round = coordinator_->recovery().round();
  if (coordinator_->recovery().plan()->members[index] != 0 && !Chance(options_.message_loss)) {
    At(now_ + Delay(5), [this, round, index] {
      coordinator_->OnStreamBroken(round, index, absl::UnavailableError("connection reset"), now_);
    });
  }
  At(now_ + outage, [this, index, incarnation] {
    if (workers_[index].incarnation == incarnation) workers_[index].alive = true;
  });
}

void World::Pump() {
  coordinator_->Take(now_, &effects_);
  for (const RecoveryAction& action : effects_.actions) Act(action);
  for (const StepPlan& plan : effects_.steps()) SendStep(effects_.round, plan);
  for (const RequestEvent& event : effects_.events) Deliver(event);
  tally_.steps += static_cast<std::int64_t>(effects_.steps_done.size());
}

void World::Act(const RecoveryAction& action) {
  switch (action.kind) {
    case RecoveryAction::Kind::kLoad:
      return Load(action.round);
    case RecoveryAction::Kind::kDescribe:
      return AskAll(action, ClusterPhase::kDescribing);
    case RecoveryAction::Kind::kPrepare:
      if (options_.plan_changes > 0) Resize();
      return AskAll(action, ClusterPhase::kPreparing);
    case RecoveryAction::Kind::kConnect:
      return AskAll(action, ClusterPhase::kConnecting);
    case RecoveryAction::Kind::kServe:
      for (std::size_t i = 0; i < workers_.size(); ++i) {
        if (action.plan->members[i] == 0) continue;
        if (workers_[i].alive && workers_[i].generation == action.generation) continue;
        At(now_ + Delay(5), [this, round = action.round, i] {
          coordinator_->OnStreamBroken(round, i, absl::UnavailableError("no stream"), now_);
        });
      }
      return;
    case RecoveryAction::Kind::kLeave:
      if (coordinator_->recovery().steps_running() > 0) Broken("left while steps ran");
      return;
    case RecoveryAction::Kind::kChangeEnded:
      ++(action.status.ok() ? tally_.changes : tally_.changes_back);
      return;
    case RecoveryAction::Kind::kAbandon:
      return;
    case RecoveryAction::Kind::kGiveUp:
      ++tally_.give_ups;
      return;
  }
}

void World::AskAll(const RecoveryAction& action, ClusterPhase phase) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (action.plan->members[i] != 0) Ask(action, phase, i);
  }
}

void World::Load(std::uint64_t round) {
  if (Chance(options_.message_loss)) return;
  At(now_ + Delay(100), [this, round] {
    coordinator_->OnLoaded(
        round, loader_alive_ ? absl::OkStatus() : absl::UnavailableError("loader away"), now_);
  });
}

void World::Ask(const RecoveryAction& action, ClusterPhase phase, std::size_t worker) {
  const bool lost = Chance(options_.message_loss);
  At(now_ + Delay(20), [this, action, phase, worker, lost] {
    const absl::Status status = Answer(phase, action, worker);
    if (lost) return;
    At(now_ + Delay(20),
       [this, round = action.round, phase, worker, status, seen = workers_[worker].generation] {
         if (phase == ClusterPhase::kDescribing && status.ok()) coordinator_->RaiseGeneration(seen);
         coordinator_->OnReply(round, phase, worker, status, now_);
       });
  });
}

absl::Status World::Answer(ClusterPhase phase, const RecoveryAction& action, std::size_t index) {
  SimWorker& worker = workers_[index];
  const std::uint64_t generation = action.generation;
  if (!worker.alive) return absl::UnavailableError("connection refused");
  if (phase == ClusterPhase::kPreparing) {
    if (generation <= worker.generation) return absl::FailedPreconditionError("an old generation");
    worker.generation = generation;
    worker.connected = worker.failed = false;
    const SchedulerOptions& o = scheduler_options_;
    worker.state = std::make_unique<FakeWorkerState>(model_, o.limits, o.sliding_window,
                                                     o.global_blocks, o.window_blocks);
  }
  if (phase == ClusterPhase::kConnecting) {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      if (action.plan->members[i] == 0) continue;
      if (!workers_[i].alive || workers_[i].generation != generation)
        return absl::DeadlineExceededError("no handshake");
    }
    worker.connected = true;
  }
  return absl::OkStatus();
}

void World::CheckRoute(const StepPlan& step) {
  const ClusterPlan& plan = *coordinator_->recovery().plan();
  if (step.step_id == 1) {
    decoding_.clear();
    last_route_ = kDecodeRoute;
  }
  const bool prefill = step.route == kPrefillRoute;
  tally_.prefill_steps += prefill ? 1 : 0;
  if (prefill && plan.prefill_micro_batches == 0) Broken("a route that the plan has not");
  const std::int32_t most = prefill ? plan.prefill_micro_batches : plan.micro_batches;
  if (static_cast<std::int32_t>(step.micro_batch_ends.size()) > std::max(1, most))
    Broken("more micro-batches than the route has");
  std::set<std::uint64_t> ended;
  for (const RequestEvent& event : effects_.events)
    if (event.kind == RequestEvent::Kind::kFinish) ended.insert(event.request);
  for (const std::uint64_t id : decoding_) {
    const Client& client = clients_.at(id);
    // As many tokens may be on their way.
    const std::size_t known = client.got.tokens.size() + 2 * kMostStepsInFlight;
    const bool wants = known < static_cast<std::size_t>(client.request.max_tokens);
    if (client.finished || ended.contains(id) || !wants) continue;
    if (prefill && last_route_ == kPrefillRoute && !coordinator_->scheduler().searching())
      Broken(absl::StrCat("request ", id, " waits for more than one step of prompts"));
  }
  for (const SequenceShare& share : step.sequences) {
    if (prefill && share.tokens.front() == kSampledToken) Broken("a decode among the prompts");
    if (!prefill && plan.prefill_micro_batches > 0 && share.tokens.size() > 1 + kMaxForcedTokens)
      Broken("a prompt among the decodes");
    if (share.sample && clients_.at(share.request).request.sampling.constraint == nullptr)
      decoding_.insert(share.request);
  }
  last_route_ = step.route;
}

void World::SendStep(std::uint64_t round, const StepPlan& plan) {
  CheckRoute(plan);
  const auto sent =
      std::make_shared<const Sent>(Sent{round, plan, coordinator_->recovery().plan(), Chance(0.3)});
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (sent->plan->members[i] == 0) continue;
    workers_[i].arrived = std::max(workers_[i].arrived, now_ + Delay(2));
    workers_[i].busy_until = std::max(workers_[i].busy_until, workers_[i].arrived) + Delay(3);
    At(workers_[i].busy_until, [this, sent, i] { RunStep(*sent, i); });
  }
}

bool World::Compute(const Sent& sent, std::size_t index, StepReply* reply) {
  SimWorker& worker = workers_[index];
  bool neighbours = true;
  for (std::size_t i = 0; i < workers_.size(); ++i)
    neighbours = neighbours && (workers_[i].alive || sent.plan->members[i] == 0);
  if (worker.generation != sent.step.generation || !worker.connected || worker.failed) {
    reply->status = absl::FailedPreconditionError("another generation");
  } else if (!neighbours || Chance(options_.step_failure)) {
    reply->status = absl::UnavailableError("a neighbour is gone");
  } else if (Chance(options_.step_refusal)) {
    reply->status = absl::InvalidArgumentError("injected");
  } else {
    absl::StatusOr<StepResult> result = worker.state->Run(sent.step, sent.sometimes);
    reply->status = result.status();
    if (absl::IsInvalidArgument(reply->status))
      Broken(absl::StrCat("worker ", index, ": ", std::string(reply->status.message())));
    if (absl::IsUnavailable(reply->status)) {
      Kill(index, Delay(1000));
      return false;
    }
    if (result.ok()) reply->result = *std::move(result);
    const bool head = index == sent.plan->head;
    std::erase_if(reply->result.sequences,
                  [head](const SequenceResult& s) { return s.status.ok() && !head; });
  }
  worker.failed = !reply->status.ok();
  return true;
}

void World::RunStep(const Sent& sent, std::size_t index) {
  SimWorker& worker = workers_[index];
  // The broken stream says it.
  if (!worker.alive) return;
  auto reply = std::make_shared<StepReply>();
  reply->round = sent.round;
  reply->worker = index;
  if (!Compute(sent, index, reply.get())) return;
  reply->result.step_id = sent.step.step_id;
  if (Chance(options_.message_loss)) return;
  worker.answered = std::max(worker.answered, now_ + Delay(20));
  At(worker.answered, [this, incarnation = worker.incarnation, reply] {
    if (workers_[reply->worker].incarnation == incarnation)
      coordinator_->OnStepReply(reply.get(), now_);
  });
}

void World::Deliver(const RequestEvent& event) {
  Client& client = clients_[event.request];
  if (client.finished || client.refused)
    return Broken(absl::StrCat("request ", event.request, " heard after its end"));
  switch (event.kind) {
    case RequestEvent::Kind::kPromptScores:
      if (client.scored || !client.got.tokens.empty()) Broken("scores twice or late");
      client.scored = true;
      client.got.scores = event.scores;
      return;
    case RequestEvent::Kind::kPooled:
      if (client.pooled || !client.got.tokens.empty()) Broken("a mean twice or late");
      client.pooled = true;
      client.got.pooled = event.pooled;
      return;
    case RequestEvent::Kind::kToken:
      client.got.tokens.push_back(event.token.token);
      return;
    case RequestEvent::Kind::kFinish:
      client.finished = true;
      CheckText(event, client);
      return;
  }
}

void World::CheckText(const RequestEvent& event, const Client& client) {
  FakeText expected = Expect(model_, client.request);
  const std::string name = absl::StrCat("request ", event.request);
  const bool poisoned = PoisonOf(client.request.sampling.seed).kind != Poison::Kind::kNone;
  if (event.reason == FinishReason::kError || event.reason == FinishReason::kCancelled) {
    ++(event.reason == FinishReason::kError ? tally_.errors : tally_.cancelled);
    tally_.culprits += event.reason == FinishReason::kError && poisoned ? 1 : 0;
    const bool random_faults =
        options_.message_loss + options_.step_failure + options_.worker_deaths > 0;
    const bool may_fail = poisoned || options_.step_refusal > 0 || tally_.give_ups > 0 ||
                          (random_faults && scheduler_options_.max_replays < kReplaysThatSuffice);
    if (event.reason == FinishReason::kError && !may_fail)
      Broken(name + " failed: " + std::string(event.status.message()));
    if (client.got.tokens.size() > expected.tokens.size())
      return Broken(name + " has too many tokens");
    expected.tokens.resize(client.got.tokens.size());
  } else {
    ++tally_.finished;
    tally_.survivors += poisoned ? 1 : 0;
    if (event.reason != expected.reason) Broken(name + " ended for another reason");
    if (client.got.pooled != expected.pooled) Broken(name + " got another mean");
    if (client.got.scores.size() != expected.scores.size())
      Broken(name + " has another number of scores");
    for (std::size_t i = 0; i < std::min(client.got.scores.size(), expected.scores.size()); ++i) {
      if (client.got.scores[i].logprob != expected.scores[i].logprob)
        Broken(absl::StrCat(name, ": score ", i, " differs"));
    }
    // What was computed: everything but the last token.
    const Poison poison = PoisonOf(client.request.sampling.seed);
    const std::size_t computed =
        client.request.prompt.size() + expected.tokens.size() -
        (expected.tokens.empty() || expected.reason == FinishReason::kStop ? 0 : 1);
    if (poisoned && poison.kind != Poison::Kind::kSometimes &&
        static_cast<std::size_t>(poison.position) < computed)
      Broken(name + " should have failed");
  }
  if (client.got.tokens != expected.tokens) Broken(name + " got another text");
}

void World::CheckEnd() {
  for (const auto& [id, client] : clients_) {
    if (!client.finished && !client.refused) Broken(absl::StrCat("request ", id, " never ended"));
  }
  if (!coordinator_->recovery().serving()) Broken("the cluster did not come back");
  const Scheduler& scheduler = coordinator_->scheduler();
  if (scheduler.searching()) Broken("the search for a culprit has no end");
  if (scheduler.running() + scheduler.waiting() != 0) Broken("requests are left in the scheduler");
  if (scheduler.global_pool().taken() + scheduler.window_pool().taken() != 0)
    Broken("blocks are left taken");
}

}  // namespace tandem
