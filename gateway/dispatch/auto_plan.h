#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/dispatch/step_model.h"
#include "lib/model/plan.h"

namespace tandem {

// How the plan `auto` is chosen: the time of each plan that the workers allow is predicted from
// what they have measured, those that may be the fastest are tried with a request, and the one that
// answers a usual request soonest serves. Pure functions; the trials are made in cluster_auto.cc.

// The name that asks for it.
inline constexpr std::string_view kAutoPlan = "auto";

// What a plan has shown on these devices.
struct PlanTrial {
  // Of MakePlan.
  std::string plan;
  // "npu0 CPU AMD EPYC, gpu0 llvmpipe"
  std::string devices;
  // Time of a token of a prompt, and of a token of an answer, with one request at a time; 0 where
  // the plan was not tried.
  double prefill_seconds = 0;
  double decode_seconds = 0;
  // Not empty: it did not come to serve, or did not answer in time. There are no times then.
  std::string error;
  // The same as they were predicted before it was tried; 0 where they could not be.
  double predicted_prefill_seconds = 0;
  double predicted_decode_seconds = 0;
  // For people, of the prediction: why there is none, or what it leaves out.
  std::string note;

  bool tried() const { return error.empty() && decode_seconds > 0; }
  bool predicted() const { return predicted_decode_seconds > 0; }
};

// What is timed of a plan, and predicted: a prompt, and then an answer behind it.
inline constexpr std::int32_t kTrialPromptTokens = 128;
inline constexpr std::int32_t kTrialAnswerTokens = 17;

// What a usual request is: one plan serves both halves of it.
inline constexpr std::int32_t kUsualPromptTokens = 512;
inline constexpr std::int32_t kUsualAnswerTokens = 128;
double UsualRequestSeconds(const PlanTrial& trial);
double PredictedRequestSeconds(const PlanTrial& trial);

// How far a prediction may be off, either way: a plan that is predicted to take this many times as
// long as another one took may still be the faster one.
inline constexpr double kPredictionMargin = 1.25;

// Steps of the plan that serves, of one request at a time: what they took and what was predicted
// for the very same, the median of the last ones.
struct StepComparison {
  bool prefill = false;
  std::size_t steps = 0;
  // Of the step with the median time.
  std::int32_t tokens = 0;
  double measured_seconds = 0;
  // 0: not predicted.
  double predicted_seconds = 0;
};

struct PlanReport {
  // In the order in which they were tried; none where no choice was made.
  std::vector<PlanTrial> trials;
  // Of the trials; empty: none of them has worked.
  std::string chosen;
  // For people: why.
  std::string reason;
  // The trials were made at an earlier start.
  bool kept = false;
  // What predictions were made from.
  std::vector<WorkerCosts> workers;
  std::vector<PairCosts> pairs;
  // Of the plan that serves now, be it another one than was chosen.
  std::vector<StepComparison> steps;
};

// The plans to choose from, with the first workers of their roles: the one that needs most of them
// first, so that it tells early who is missing. With two workers also some divisions of the layers,
// which serve where the model is too large for either one.
std::vector<std::string> AutoCandidates(const std::vector<PlanWorker>& workers,
                                        std::int32_t num_layers);
// Whether the plan is tried where its time cannot be predicted.
bool TriedBlindly(std::string_view plan);
// Index of the plan to try next: the one that may turn out shortest. Nothing where none that is
// left may be shorter than the shortest that was tried.
std::optional<std::size_t> NextTrial(const std::vector<PlanTrial>& trials);
// Of those that were tried the one with the shortest usual request; of equal ones the first.
PlanReport ChoosePlan(std::vector<PlanTrial> trials);

// Trials as they are kept in the user's cache, from outside when they are read: `key` names all
// that they depend on. DATA_LOSS where the text is anything but trials of exactly these plans under
// this key.
std::string WriteTrials(std::string_view key, const std::vector<PlanTrial>& trials);
absl::StatusOr<std::vector<PlanTrial>> ReadTrials(std::string_view text, std::string_view key,
                                                  const std::vector<std::string>& plans);

}  // namespace tandem
