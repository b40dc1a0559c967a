// Steps in virtual time: a gateway, messages, workers with queues, and stages whose times are
// known. What is measured of them as the gateway measures it must predict what they then take.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gateway/dispatch/step_model.h"
#include "gateway/dispatch/step_stopwatch.h"

namespace tandem {
namespace {

// Seconds of what a step consists of beside its stages.
struct World {
  // The gateway has one thread: for each message that it sends or takes.
  double gateway = 0;
  // A message on its way to each worker, or from it.
  std::vector<double> message;
  // A worker between two steps.
  double between = 0;
  // Of the stages' processor, for each message that a worker takes or sends meanwhile.
  double stolen = 0;
};

// Every step is of `stages` seconds on the first worker, and of nothing on the others. Returns when
// each was answered, as StepStopwatch and the coordinator count it.
std::vector<double> TimesOf(const World& world, double stages, std::size_t in_flight,
                            std::size_t workers, int steps) {
  std::vector<double> sent;
  std::vector<double> done;
  double gateway_free = 0;
  std::vector<double> worker_free(workers);
  std::vector<double> seconds;
  for (int step = 0; step < steps; ++step) {
    const auto index = static_cast<std::size_t>(step);
    double begin = gateway_free;
    if (index >= in_flight) begin = std::max(begin, done[index - in_flight]);
    sent.push_back(begin);
    double answered = 0;
    for (std::size_t worker = 0; worker < workers; ++worker) {
      gateway_free = begin + world.gateway * static_cast<double>(worker + 1);
      const double start = std::max(gateway_free + world.message[worker], worker_free[worker]);
      // The step before is answered, and the next one comes, while this one runs.
      const double stolen = in_flight > 1 ? 2 * world.stolen * static_cast<double>(workers) : 0;
      const double end = start + (worker == 0 ? stages + stolen : 0);
      worker_free[worker] = end + world.between;
      answered = std::max(answered, end + world.message[worker]) + world.gateway;
    }
    if (step > 0) answered = std::max(answered, done.back());
    done.push_back(answered);
    seconds.push_back(answered - std::max(sent.back(), step == 0 ? 0 : done[index - 1]));
  }
  // The first ones fill the window.
  seconds.erase(seconds.begin(), seconds.begin() + 10);
  return seconds;
}

constexpr std::size_t kShares = 8;
constexpr int kSteps = 50;

// What is measured of steps through `layers` layers.
StepOverhead Measure(const World& world, double stages, std::size_t in_flight) {
  OverheadSteps steps;
  steps.shares = kShares;
  steps.following = TimesOf(world, stages, in_flight, 1, kSteps);
  steps.lone = TimesOf(world, stages, 1, 1, kSteps);
  steps.many = TimesOf(world, kShares * stages, 1, 1, kSteps);
  return TakeOverhead(steps);
}

ModelConfig Layers(std::int32_t layers) {
  ModelConfig config;
  config.num_layers = layers;
  config.sliding_window = 100;
  config.layer_is_global.assign(static_cast<std::size_t>(layers), false);
  return config;
}

// Attention takes a third of a layer, and nothing else but layers takes time.
WorkerCosts Costs(const std::string& worker, double layer, const StepOverhead& overhead) {
  WorkerCosts costs{worker, "device", {}, "", false, overhead};
  for (const CostPoint point : {CostPoint{1, 16}, CostPoint{8, 0}}) {
    for (const auto& entry : kEnumNames<CostKind>) {
      const double part = entry.value == CostKind::kLocalAttention ? layer / 3
                          : entry.value == CostKind::kFfn          ? 2 * layer / 3
                                                                   : 0;
      costs.costs.push_back({entry.value, point, part * point.tokens});
    }
  }
  return costs;
}

double Predict(const StepModel& model, std::int32_t layers, const CostPoint& point, bool to_both) {
  const std::vector<StagePlacement> route = {{"npu0", StagePart::kEmbed, 0, 0},
                                             {"npu0", StagePart::kBoth, 0, layers},
                                             {"npu0", StagePart::kHead, 0, 0}};
  const auto predicted = model.Predict(route, {point, true, 1, to_both});
  EXPECT_TRUE(predicted.ok()) << predicted.status();
  return predicted.ok() ? predicted->seconds : 0;
}

// From steps much shorter than a message's way to such that hide it.
TEST(StepTimes, ArePredictedFromWhatIsMeasured) {
  std::mt19937 random(7);
  const auto between = [&](double least, double most) {
    return std::uniform_real_distribution<double>(least, most)(random);
  };
  double largest_without = 0;
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const World world{between(0, 5e-5),
                      {between(1e-5, 3e-4), between(1e-5, 3e-4)},
                      between(0, 3e-5),
                      between(0, 2e-4)};
    const std::int32_t layers = 12;
    const double layer = between(2e-6, 5e-4);
    const double stages = layers * layer;
    const std::size_t in_flight = round % 3 == 0 ? 1 : 2;
    PairCosts pair;
    pair.message_seconds =
        std::max(0.0, MiddleMean(TimesOf(world, stages, in_flight, 2, kSteps)) -
                          MiddleMean(TimesOf(world, stages, in_flight, 1, kSteps)));
    const StepModel model(Layers(layers), {Costs("npu0", layer, Measure(world, stages, in_flight))},
                          {pair});
    const StepModel without(Layers(layers), {Costs("npu0", layer, {})}, {});
    for (const std::size_t workers : {1, 2}) {
      const double taken = MiddleMean(TimesOf(world, stages, in_flight, workers, kSteps));
      EXPECT_NEAR(Predict(model, layers, {1, 16}, workers == 2), taken, 0.01 * taken);
      largest_without =
          std::max(largest_without, 1 - Predict(without, layers, {1, 16}, workers == 2) / taken);
    }
    // A prompt of eight tokens comes by itself.
    const double prompt = MiddleMean(TimesOf(world, 8 * stages, 1, 1, kSteps));
    EXPECT_NEAR(Predict(model, layers, {8, 0}, false), prompt, 0.01 * prompt);
  }
  // That is not so because there is nothing to predict.
  EXPECT_GT(largest_without, 0.5);
}

// Where steps are long, a few layers are measured instead of all: what they say of messages may be
// said of steps that hide more of it, but never by as much as a prediction may be off.
TEST(StepTimes, AreKnownWellEnoughFromFewLayers) {
  std::mt19937 random(11);
  const auto between = [&](double least, double most) {
    return std::uniform_real_distribution<double>(least, most)(random);
  };
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const World world{between(0, 5e-5), {between(1e-5, 3e-4)}, between(0, 3e-5), between(0, 2e-4)};
    const std::int32_t layers = 26;
    const double layer = between(1e-3, 1e-2);
    const StepModel model(Layers(layers), {Costs("npu0", layer, Measure(world, 2 * layer, 2))}, {});
    const double taken = MiddleMean(TimesOf(world, layers * layer, 2, 1, kSteps));
    EXPECT_NEAR(Predict(model, layers, {1, 16}, false), taken, 0.05 * taken);
  }
}

// Moments in which the machine did something else, in an eighth of all steps, change little.
TEST(StepTimes, AreMeasuredPastDisturbances) {
  std::mt19937 random(13);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    const World world{1e-5, {1e-4}, 1e-5, 1e-4};
    const double stages = 1e-3;
    const auto disturbed = [&](std::vector<double> seconds) {
      for (double& each : seconds) {
        if (random() % 8 == 0) each *= 1 + 20.0 * static_cast<double>(random() % 100) / 100;
      }
      return seconds;
    };
    OverheadSteps steps;
    steps.shares = kShares;
    steps.following = disturbed(TimesOf(world, stages, 2, 1, 200));
    steps.lone = disturbed(TimesOf(world, stages, 1, 1, 200));
    steps.many = disturbed(TimesOf(world, kShares * stages, 1, 1, 200));
    const StepOverhead quiet = Measure(world, stages, 2);
    const StepOverhead measured = TakeOverhead(steps);
    EXPECT_NEAR(measured.following_seconds, quiet.following_seconds, 0.25 * stages);
    EXPECT_NEAR(measured.lone_seconds, quiet.lone_seconds, 0.25 * stages);
  }
}

}  // namespace
}  // namespace tandem
