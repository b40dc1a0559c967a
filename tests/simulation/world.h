#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gateway/dispatch/coordinator.h"
#include "tests/simulation/fake_model.h"

namespace tandem {

// How hostile a world is.
struct WorldOptions {
  // The last one has the head to begin with.
  std::int32_t workers = 2;
  std::int32_t requests = 20;
  // 0: one to four, by the seed.
  std::int32_t steps_in_flight = 0;
  // Of each reply.
  double message_loss = 0;
  // INVALID_ARGUMENT in the place of a step's result, and UNAVAILABLE.
  double step_refusal = 0;
  double step_failure = 0;
  std::int32_t worker_deaths = 0;
  std::int32_t loader_deaths = 0;
  // Times that the plan is changed to one of other workers and another head.
  std::int32_t plan_changes = 0;
  // Plans may have a route for prompts, and the first one has.
  bool routes = false;
  // Deaths may outlast the recovery timeout.
  bool long_outages = false;
  // So many of the requests are poisoned, each in one of these ways.
  double poisoned = 0;
  std::vector<Poison::Kind> poisons = {};
};

// A cluster in virtual time: the gateway's Coordinator against workers and a loader that answer
// late, not at all, or die. Everything follows from the seed.
class World {
 public:
  World(std::uint64_t seed, WorldOptions options);
  // Runs until all requests have ended and the faults are over. Empty, or what went wrong.
  std::string Run();

  // What happened, so that tests can tell that the simulation reaches what it is meant to.
  struct Tally {
    std::int64_t steps = 0;
    std::int64_t recoveries = 0;
    std::int64_t give_ups = 0;
    std::int64_t finished = 0;
    std::int64_t cancelled = 0;
    std::int64_t errors = 0;
    std::int64_t refused = 0;
    // Of the errors: those of poisoned requests. Requests that were poisoned and ended well.
    std::int64_t culprits = 0;
    std::int64_t survivors = 0;
    // Plans that served, and such that were taken back.
    std::int64_t changes = 0;
    std::int64_t changes_back = 0;
    // Of the steps: those that took the route for prompts.
    std::int64_t prefill_steps = 0;
  };
  const Tally& tally() const { return tally_; }

 private:
  struct SimWorker {
    bool alive = true;
    std::uint64_t incarnation = 0;
    std::uint64_t generation = 0;
    bool connected = false;
    // After a step that failed nothing runs until the next Prepare.
    bool failed = false;
    std::unique_ptr<FakeWorkerState> state;
    // Steps arrive, run and are answered in order.
    absl::Duration arrived;
    absl::Duration busy_until;
    absl::Duration answered;
  };
  struct Event {
    absl::Duration at;
    std::uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };
  struct Client {
    GenerationRequest request;
    FakeText got;
    bool scored = false;
    bool pooled = false;
    bool finished = false;
    bool refused = false;
  };

  std::int64_t Pick(std::int64_t least, std::int64_t most);
  bool Chance(double probability);
  absl::Duration Delay(std::int64_t most_ms) {
    return absl::Microseconds(Pick(20, most_ms * 1000));
  }
  void At(absl::Duration at, std::function<void()> run);
  void Broken(const std::string& what);

  void ScheduleArrivals();
  void ScheduleFaults();
  void Submit(std::uint64_t id);
  void Kill(std::size_t worker, absl::Duration outage);
  void Pump();
  void Act(const RecoveryAction& action);
  void Load(std::uint64_t round);
  void AskAll(const RecoveryAction& action, ClusterPhase phase);
  void Ask(const RecoveryAction& action, ClusterPhase phase, std::size_t worker);
  absl::Status Answer(ClusterPhase phase, const RecoveryAction& action, std::size_t worker);
  // Of random workers, with sizes that hold whatever waits.
  SharedPlan RandomPlan();
  std::int32_t DecodeTokens(const ClusterPlan& plan);
  void Resize();
  void SendStep(std::uint64_t round, const StepPlan& plan);
  // That the step is of one kind where its plan has two routes, and nobody waits too long.
  void CheckRoute(const StepPlan& step);
  // What the workers of a step know of it.
  struct Sent {
    std::uint64_t round = 0;
    StepPlan step;
    SharedPlan plan;
    bool sometimes = false;
  };
  void RunStep(const Sent& sent, std::size_t worker);
  // What the worker makes of the step; true when it answers at all.
  bool Compute(const Sent& sent, std::size_t worker, StepReply* reply);
  void Deliver(const RequestEvent& event);
  void CheckText(const RequestEvent& event, const Client& client);
  void CheckEnd();

  std::mt19937_64 random_;
  WorldOptions options_;
  FakeModel model_;
  SchedulerOptions scheduler_options_;
  std::unique_ptr<Coordinator> coordinator_;
  Coordinator::Effects effects_;
  std::vector<SimWorker> workers_;
  bool loader_alive_ = true;
  absl::Duration now_;
  absl::Duration faults_end_;
  std::uint64_t order_ = 0;
  std::priority_queue<Event> events_;
  // Requests that have sampled in this generation, and the route of its last step.
  std::set<std::uint64_t> decoding_;
  std::int32_t last_route_ = kDecodeRoute;
  std::map<std::uint64_t, Client> clients_;
  std::string error_;
  Tally tally_;
};

}  // namespace tandem
