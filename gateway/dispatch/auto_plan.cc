#include "gateway/dispatch/auto_plan.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
// Of a time that anybody has waited for.
constexpr double kLongestSeconds = 3600;

bool IsTime(const Json& value) {
  if (!value.is_number()) return false;
  const double seconds = value.get<double>();
  return std::isfinite(seconds) && seconds > 0 && seconds <= kLongestSeconds;
}

bool HasText(const Json& entry, const char* field) {
  const auto found = entry.find(field);
  return found != entry.end() && found->is_string();
}

absl::StatusOr<PlanTrial> ReadTrial(const Json& entry, const std::string& plan) {
  if (!entry.is_object() || !HasText(entry, "plan") || !HasText(entry, "devices") ||
      !HasText(entry, "error") || entry["plan"].get<std::string>() != plan) {
    return absl::DataLossError(absl::StrCat("expected a trial of plan ", plan));
  }
  PlanTrial trial{plan, entry["devices"].get<std::string>(), 0, 0,
                  entry["error"].get<std::string>()};
  if (!trial.error.empty()) return trial;
  if (!entry.contains("prefill_seconds") || !entry.contains("decode_seconds") ||
      !IsTime(entry["prefill_seconds"]) || !IsTime(entry["decode_seconds"])) {
    return absl::DataLossError(absl::StrCat("expected times of plan ", plan));
  }
  trial.prefill_seconds = entry["prefill_seconds"].get<double>();
  trial.decode_seconds = entry["decode_seconds"].get<double>();
  return trial;
}

}  // namespace

double UsualRequestSeconds(const PlanTrial& trial) {
  return kUsualPromptTokens * trial.prefill_seconds + kUsualAnswerTokens * trial.decode_seconds;
}

std::vector<std::string> AutoCandidates(const std::vector<PlanWorker>& workers) {
  const auto has = [&](WorkerRole role) {
    return std::any_of(workers.begin(), workers.end(),
                       [role](const PlanWorker& worker) { return worker.role == role; });
  };
  std::vector<std::string> plans;
  if (has(WorkerRole::kGpu) && has(WorkerRole::kNpu)) plans.push_back("split");
  if (has(WorkerRole::kGpu)) plans.push_back("gpu");
  if (has(WorkerRole::kNpu)) plans.push_back("npu");
  return plans;
}

PlanReport ChoosePlan(std::vector<PlanTrial> trials) {
  PlanReport report;
  const PlanTrial* best = nullptr;
  for (const PlanTrial& trial : trials) {
    if (!trial.error.empty()) continue;
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
    Json entry = {{"plan", trial.plan}, {"devices", trial.devices}, {"error", trial.error}};
    if (trial.error.empty()) {
      entry["prefill_seconds"] = trial.prefill_seconds;
      entry["decode_seconds"] = trial.decode_seconds;
    }
    entries.push_back(std::move(entry));
  }
  const Json file = {{"version", kVersion}, {"key", std::string(key)}, {"trials", entries}};
  // Whatever a driver calls its device.
  return file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::vector<PlanTrial>> ReadTrials(std::string_view text, std::string_view key,
                                                  const std::vector<std::string>& plans) {
  const absl::StatusOr<Json> file = ParseJson(text);
  if (!file.ok()) return absl::DataLossError(file.status().message());
  if (!file->is_object() || file->value("version", Json()) != Json(kVersion))
    return absl::DataLossError(absl::StrCat("expected trials of version ", kVersion));
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
