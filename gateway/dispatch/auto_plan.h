#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/model/plan.h"

namespace tandem {

// How the plan `auto` is chosen: each plan that the workers allow is tried with a request, and the
// one that would answer a usual request soonest serves. Pure functions; the trials are made in
// cluster_auto.cc.

// The name that asks for it.
inline constexpr std::string_view kAutoPlan = "auto";

// What a plan has shown on these devices.
struct PlanTrial {
  // Of MakePlan.
  std::string plan;
  // "npu0 CPU AMD EPYC, gpu0 llvmpipe"
  std::string devices;
  // Time of a token of a prompt, and of a token of an answer, with one request at a time.
  double prefill_seconds = 0;
  double decode_seconds = 0;
  // Not empty: it did not come to serve, or did not answer in time. There are no times then.
  std::string error;
};

// What a usual request is: one plan serves both halves of it.
inline constexpr std::int32_t kUsualPromptTokens = 512;
inline constexpr std::int32_t kUsualAnswerTokens = 128;
double UsualRequestSeconds(const PlanTrial& trial);

struct PlanReport {
  // In the order in which they were tried; none where no choice was made.
  std::vector<PlanTrial> trials;
  // Of the trials; empty: none of them has worked.
  std::string chosen;
  // For people: why.
  std::string reason;
  // The trials were made at an earlier start.
  bool kept = false;
};

// The plans to try, all with the first workers of their roles: the one that needs most of them
// first, so that it tells early who is missing.
std::vector<std::string> AutoCandidates(const std::vector<PlanWorker>& workers);
// The one with the shortest usual request; of equal ones the first.
PlanReport ChoosePlan(std::vector<PlanTrial> trials);

// Trials as they are kept in the user's cache, from outside when they are read: `key` names all
// that they depend on. DATA_LOSS where the text is anything but trials of exactly these plans under
// this key.
std::string WriteTrials(std::string_view key, const std::vector<PlanTrial>& trials);
absl::StatusOr<std::vector<PlanTrial>> ReadTrials(std::string_view text, std::string_view key,
                                                  const std::vector<std::string>& plans);

}  // namespace tandem
