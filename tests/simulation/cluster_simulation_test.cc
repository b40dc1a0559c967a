// The gateway's scheduler and recovery in thousands of virtual clusters, with one to four steps in
// flight. TANDEM_SIMULATION_SEED=N runs one seed of each kind, TANDEM_SIMULATION_SEEDS=N so many.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/simulation/world.h"

namespace tandem {
namespace {

World::Tally RunSeeds(const WorldOptions& options, std::uint64_t seeds) {
  World::Tally sum;
  std::uint64_t first = 0;
  if (const char* one = std::getenv("TANDEM_SIMULATION_SEED")) {
    first = std::strtoull(one, nullptr, 10);
    seeds = 1;
  } else if (const char* many = std::getenv("TANDEM_SIMULATION_SEEDS")) {
    seeds = std::strtoull(many, nullptr, 10);
  }
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    World world(seed, options);
    const std::string error = world.Run();
    EXPECT_EQ(error, "") << "TANDEM_SIMULATION_SEED=" << seed;
    if (!error.empty()) break;
    const World::Tally& tally = world.tally();
    sum.steps += tally.steps;
    sum.recoveries += tally.recoveries;
    sum.give_ups += tally.give_ups;
    sum.finished += tally.finished;
    sum.cancelled += tally.cancelled;
    sum.errors += tally.errors;
    sum.refused += tally.refused;
    sum.culprits += tally.culprits;
    sum.survivors += tally.survivors;
    sum.changes += tally.changes;
    sum.changes_back += tally.changes_back;
    sum.prefill_steps += tally.prefill_steps;
  }
  std::printf(
      "  %ld steps, %ld recoveries, %ld give-ups; requests: %ld finished, %ld cancelled, %ld "
      "failed (%ld of them poisoned), %ld refused; poisoned and finished: %ld; plans: %ld served, "
      "%ld taken back\n",
      sum.steps, sum.recoveries, sum.give_ups, sum.finished, sum.cancelled, sum.errors,
      sum.culprits, sum.refused, sum.survivors, sum.changes, sum.changes_back);
  return sum;
}

bool AllSeeds() { return std::getenv("TANDEM_SIMULATION_SEED") == nullptr; }

TEST(ClusterSimulation, FairWeather) {
  const World::Tally tally = RunSeeds({.workers = 1, .requests = 20}, 300);
  EXPECT_EQ(tally.errors, 0);
  EXPECT_EQ(tally.recoveries, 0);
  if (AllSeeds()) {
    EXPECT_GT(tally.finished, 3000);
  }
}

TEST(ClusterSimulation, WorkersDieAndTheTextGoesOn) {
  const World::Tally tally = RunSeeds({.workers = 2, .worker_deaths = 4}, 500);
  if (AllSeeds()) {
    EXPECT_GT(tally.recoveries, 500);
  }
}

TEST(ClusterSimulation, MessagesAreLostAndStepsFail) {
  const World::Tally tally = RunSeeds({.workers = 3,
                                       .message_loss = 0.003,
                                       .step_failure = 0.003,
                                       .worker_deaths = 2,
                                       .loader_deaths = 2},
                                      500);
  if (AllSeeds()) {
    EXPECT_GT(tally.recoveries, 500);
  }
}

TEST(ClusterSimulation, AWorkerRefusesSteps) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .step_refusal = 0.002, .worker_deaths = 1}, 300);
  if (AllSeeds()) {
    EXPECT_GT(tally.errors, 20);
  }
}

TEST(ClusterSimulation, OutagesLongerThanTheRecoveryTimeout) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .worker_deaths = 2, .long_outages = true}, 300);
  if (AllSeeds()) {
    EXPECT_GT(tally.give_ups, 50);
    EXPECT_GT(tally.errors, 50);
  }
}

using Kind = Poison::Kind;

TEST(ClusterSimulation, APoisonedRequestEndsAloneAndItsNeighboursGetTheirText) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .poisoned = 0.1, .poisons = {Kind::kStep}}, 500);
  EXPECT_EQ(tally.errors, tally.culprits);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 300);
  }
}

TEST(ClusterSimulation, ARequestThatKillsWorkersEndsAlone) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .poisoned = 0.1, .poisons = {Kind::kCrash}}, 500);
  EXPECT_EQ(tally.errors, tally.culprits);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 300);
  }
}

TEST(ClusterSimulation, OccasionalPoisonHarmsNobodyElse) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .poisoned = 0.1, .poisons = {Kind::kSometimes}}, 500);
  EXPECT_EQ(tally.errors, tally.culprits);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 100);
  }
}

TEST(ClusterSimulation, AShareThatFailsEndsItsRequestWithoutARecovery) {
  const World::Tally tally =
      RunSeeds({.workers = 2, .poisoned = 0.2, .poisons = {Kind::kSequence}}, 500);
  EXPECT_EQ(tally.errors, tally.culprits);
  EXPECT_EQ(tally.recoveries, 0);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 500);
  }
}

TEST(ClusterSimulation, ThePlanChangesAndTheTextGoesOn) {
  const World::Tally tally = RunSeeds({.workers = 3, .plan_changes = 6}, 500);
  EXPECT_EQ(tally.errors, 0);
  EXPECT_EQ(tally.recoveries, 0);
  EXPECT_EQ(tally.changes_back, 0);
  if (AllSeeds()) {
    EXPECT_GT(tally.changes, 2000);
    EXPECT_GT(tally.finished, 3000);
  }
}

TEST(ClusterSimulation, ThePlanChangesWhileWorkersDie) {
  const World::Tally tally = RunSeeds({.workers = 3,
                                       .message_loss = 0.002,
                                       .worker_deaths = 4,
                                       .loader_deaths = 1,
                                       .plan_changes = 6},
                                      500);
  if (AllSeeds()) {
    EXPECT_GT(tally.changes, 1000);
    EXPECT_GT(tally.changes_back, 200);
    EXPECT_GT(tally.recoveries, 300);
  }
}

TEST(ClusterSimulation, PromptsAndDecodesTakeTheirRoutesInTurn) {
  const World::Tally tally = RunSeeds({.workers = 2, .requests = 30, .routes = true}, 300);
  EXPECT_EQ(tally.errors, 0);
  EXPECT_EQ(tally.recoveries, 0);
  if (AllSeeds()) {
    EXPECT_GT(tally.finished, 3000);
    EXPECT_GT(tally.prefill_steps, 10000);
    EXPECT_GT(tally.steps - tally.prefill_steps, 10000);
  }
}

TEST(ClusterSimulation, WorkersDieAndPlansChangeUnderRoutes) {
  const World::Tally tally = RunSeeds(
      {.workers = 3, .message_loss = 0.002, .worker_deaths = 4, .plan_changes = 4, .routes = true},
      400);
  if (AllSeeds()) {
    EXPECT_GT(tally.recoveries, 300);
    EXPECT_GT(tally.changes, 500);
    EXPECT_GT(tally.prefill_steps, 5000);
  }
}

TEST(ClusterSimulation, PoisonUnderRoutesHarmsNobodyElse) {
  const World::Tally tally = RunSeeds({.workers = 2,
                                       .routes = true,
                                       .poisoned = 0.1,
                                       .poisons = {Kind::kStep, Kind::kCrash, Kind::kSometimes}},
                                      300);
  EXPECT_EQ(tally.errors, tally.culprits);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 100);
  }
}

TEST(ClusterSimulation, EverythingAtOnce) {
  const World::Tally tally =
      RunSeeds({.workers = 3,
                .message_loss = 0.002,
                .worker_deaths = 2,
                .loader_deaths = 1,
                .plan_changes = 3,
                .poisoned = 0.1,
                .poisons = {Kind::kStep, Kind::kCrash, Kind::kSequence, Kind::kSometimes}},
               500);
  if (AllSeeds()) {
    EXPECT_GT(tally.culprits, 300);
    EXPECT_GT(tally.finished, 3000);
  }
}

TEST(ClusterSimulation, ASeedAlwaysGivesTheSameRun) {
  const WorldOptions options{.workers = 2, .message_loss = 0.01, .worker_deaths = 3};
  World first(42, options);
  World second(42, options);
  EXPECT_EQ(first.Run(), second.Run());
  EXPECT_EQ(first.tally().steps, second.tally().steps);
  EXPECT_EQ(first.tally().finished, second.tally().finished);
}

}  // namespace
}  // namespace tandem
