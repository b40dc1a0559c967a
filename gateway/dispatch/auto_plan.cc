#include "gateway/dispatch/auto_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr int kFileVersion = 2;
// Of a time that anybody has waited for.
constexpr double kLongestSeconds = 3600;

constexpr std::string_view kLayersColon = "layers:";

// Both times of a pair, or neither.
absl::Status ReadTimes(const Json& entry, const char* prefill, const char* decode,
                       double* prefill_seconds, double* decode_seconds) {
  if (!entry.contains(prefill) && !entry.contains(decode)) return absl::OkStatus();
  for (const auto& [field, to] :
       {std::pair(prefill, prefill_seconds), std::pair(decode, decode_seconds)}) {
    const auto found = entry.find(field);
    const double seconds =
        found != entry.end() && found->is_number() ? found->get<double>() : std::nan("");
    if (!(seconds > 0 && seconds <= kLongestSeconds))
      return absl::DataLossError(absl::StrCat("expected a time as ", field));
    *to = seconds;
  }
  return absl::OkStatus();
}

bool HasText(const Json& entry, const char* field) {
  const auto found = entry.find(field);
  return found != entry.end() && found->is_string();
}

absl::StatusOr<PlanTrial> ReadTrial(const Json& entry, const std::string& plan) {
  if (!entry.is_object() || !HasText(entry, "plan") || !HasText(entry, "devices") ||
      !HasText(entry, "error") || !HasText(entry, "note") ||
      entry["plan"].get<std::string>() != plan) {
    return absl::DataLossError(absl::StrCat("expected a trial of plan ", plan));
  }
  PlanTrial trial;
  trial.plan = plan;
  trial.devices = entry["devices"].get<std::string>();
  trial.error = entry["error"].get<std::string>();
  trial.note = entry["note"].get<std::string>();
  TANDEM_RETURN_IF_ERROR(ReadTimes(entry, "predicted_prefill_seconds", "predicted_decode_seconds",
                                   &trial.predicted_prefill_seconds,
                                   &trial.predicted_decode_seconds));
  if (!trial.error.empty()) return trial;
  TANDEM_RETURN_IF_ERROR(ReadTimes(entry, "prefill_seconds", "decode_seconds",
                                   &trial.prefill_seconds, &trial.decode_seconds));
  if (!trial.tried() && !trial.predicted())
    return absl::DataLossError(absl::StrCat("expected times of plan ", plan));
  return trial;
}

}  // namespace

double UsualRequestSeconds(const PlanTrial& trial) {
  return kUsualPromptTokens * trial.prefill_seconds + kUsualAnswerTokens * trial.decode_seconds;
}

double PredictedRequestSeconds(const PlanTrial& trial) {
  return kUsualPromptTokens * trial.predicted_prefill_seconds +
         kUsualAnswerTokens * trial.predicted_decode_seconds;
}

std::vector<std::string> AutoCandidates(const std::vector<PlanWorker>& workers,
                                        std::int32_t num_layers) {
  const auto has = [&](WorkerRole role) {
    return std::any_of(workers.begin(), workers.end(),
                       [role](const PlanWorker& worker) { return worker.role == role; });
  };
  const bool both = has(WorkerRole::kGpu) && has(WorkerRole::kNpu);
  std::vector<std::string> plans;
  if (both) plans.push_back("split");
  if (has(WorkerRole::kGpu)) plans.push_back("gpu");
  if (has(WorkerRole::kNpu)) plans.push_back("npu");
  if (both) plans.push_back("hybrid");
  if (workers.size() != 2) return plans;
  std::int32_t last = 0;
  for (const std::int32_t quarters : {1, 2, 3}) {
    const std::int32_t first = num_layers * quarters / 4;
    if (first <= last || first >= num_layers) continue;
    plans.push_back(absl::StrCat("layers:", first, ",", num_layers - first));
    last = first;
  }
  return plans;
}

bool TriedBlindly(std::string_view plan) { return !plan.starts_with(kLayersColon); }

std::optional<std::size_t> NextTrial(const std::vector<PlanTrial>& trials) {
  double shortest = std::numeric_limits<double>::infinity();
  for (const PlanTrial& trial : trials) {
    if (trial.tried()) shortest = std::min(shortest, UsualRequestSeconds(trial));
  }
  std::optional<std::size_t> next;
  double least = shortest;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const PlanTrial& trial = trials[i];
    if (trial.tried() || !trial.error.empty()) continue;
    // One without a prediction may be anything.
    const double may_take = PredictedRequestSeconds(trial) / kPredictionMargin;
    if (may_take >= least) continue;
    least = may_take;
    next = i;
  }
  return next;
}

PlanReport ChoosePlan(std::vector<PlanTrial> trials) {
  PlanReport report;
  const PlanTrial* best = nullptr;
  for (const PlanTrial& trial : trials) {
    if (!trial.tried()) continue;
    if (best == nullptr || UsualRequestSeconds(trial) < UsualRequestSeconds(*best)) best = &trial;
  }
  if (best == nullptr) {
    report.reason = "no plan has worked";
  } else {
    report.chosen = best->plan;
    report.reason = absl::StrFormat(
        "%s (%s) answers a prompt of %d tokens with %d tokens in %.3g s", best->plan, best->devices,
        kUsualPromptTokens, kUsualAnswerTokens, UsualRequestSeconds(*best));
  }
  for (const PlanTrial& trial : trials) {
    if (&trial == best) continue;
    if (!trial.error.empty()) {
      absl::StrAppend(&report.reason, "; ", trial.plan, " cannot: ", trial.error);
    } else if (!trial.tried()) {
      if (best == nullptr) continue;
      absl::StrAppendFormat(
          &report.reason, "; %s (%s) would take %.3g times as long, by the times of its stages",
          trial.plan, trial.devices, PredictedRequestSeconds(trial) / UsualRequestSeconds(*best));
    } else {
      absl::StrAppendFormat(&report.reason, "; %s (%s) takes %.3g times as long", trial.plan,
                            trial.devices, UsualRequestSeconds(trial) / UsualRequestSeconds(*best));
    }
  }
  report.trials = std::move(trials);
  return report;
}

std::string WriteTrials(std::string_view key, const std::vector<PlanTrial>& trials) {
  Json entries = Json::array();
  for (const PlanTrial& trial : trials) {
    Json entry = {{"plan", trial.plan},
                  {"devices", trial.devices},
                  {"error", trial.error},
                  {"note", trial.note}};
    if (trial.predicted()) {
      entry["predicted_prefill_seconds"] = trial.predicted_prefill_seconds;
      entry["predicted_decode_seconds"] = trial.predicted_decode_seconds;
    }
    if (trial.tried()) {
      entry["prefill_seconds"] = trial.prefill_seconds;
      entry["decode_seconds"] = trial.decode_seconds;
    }
    entries.push_back(std::move(entry));
  }
  const Json file = {{"version", kFileVersion}, {"key", std::string(key)}, {"trials", entries}};
  // Whatever a driver calls its device.
  return file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::vector<PlanTrial>> ReadTrials(std::string_view text, std::string_view key,
                                                  const std::vector<std::string>& plans) {
  const absl::StatusOr<Json> file = ParseJson(text);
  if (!file.ok()) return absl::DataLossError(file.status().message());
  if (!file->is_object() || file->value("version", Json()) != Json(kFileVersion))
    return absl::DataLossError(absl::StrCat("expected trials of version ", kFileVersion));
  if (!HasText(*file, "key") || (*file)["key"].get<std::string>() != key)
    return absl::DataLossError("expected trials of these devices and this model");
  const auto trials = file->find("trials");
  if (trials == file->end() || !trials->is_array() || trials->size() != plans.size())
    return absl::DataLossError(absl::StrCat("expected ", plans.size(), " trials"));
  std::vector<PlanTrial> read;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(PlanTrial trial, ReadTrial((*trials)[i], plans[i]));
    read.push_back(std::move(trial));
  }
  return read;
}

}  // namespace tandem
