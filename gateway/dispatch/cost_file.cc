#include "gateway/dispatch/cost_file.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/model/kinds.h"
#include "lib/model/step_limits.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr int kFileVersion = 4;
constexpr double kMostSlowdown = 1000;

bool HasText(const Json& entry, const char* field) {
  const auto found = entry.find(field);
  return found != entry.end() && found->is_string();
}

absl::StatusOr<double> ReadNumber(const Json& entry, const char* field, double least, double most) {
  const auto found = entry.find(field);
  const double value =
      found != entry.end() && found->is_number() ? found->get<double>() : std::nan("");
  if (value >= least && value <= most) return value;
  return absl::DataLossError(absl::StrCat(field, ": expected a number from ", least, " to ", most));
}

absl::StatusOr<std::int32_t> ReadWhole(const Json& entry, const char* field, std::int32_t least,
                                       std::int32_t most) {
  TANDEM_ASSIGN_OR_RETURN(const double value, ReadNumber(entry, field, least, most));
  if (value != std::floor(value))
    return absl::DataLossError(absl::StrCat(field, ": expected a whole number"));
  return static_cast<std::int32_t>(value);
}

absl::StatusOr<Json> ReadFile(std::string_view text, std::string_view key) {
  absl::StatusOr<Json> file = ParseJson(text);
  if (!file.ok()) return absl::DataLossError(file.status().message());
  if (!file->is_object() || file->value("version", Json()) != Json(kFileVersion))
    return absl::DataLossError(absl::StrCat("expected times of version ", kFileVersion));
  if (!HasText(*file, "key") || (*file)["key"].get<std::string>() != key)
    return absl::DataLossError("expected times of these devices and this model");
  return file;
}

absl::StatusOr<StageCost> ReadCost(const Json& entry) {
  if (!entry.is_object() || !HasText(entry, "kind"))
    return absl::DataLossError("expected the time of a stage");
  StageCost cost;
  const absl::StatusOr<CostKind> kind =
      ParseEnum<CostKind>("kind", entry["kind"].get<std::string>());
  if (!kind.ok()) return absl::DataLossError(kind.status().message());
  cost.kind = *kind;
  TANDEM_ASSIGN_OR_RETURN(cost.point.tokens, ReadWhole(entry, "tokens", 1, kMaxStepTokens));
  TANDEM_ASSIGN_OR_RETURN(cost.point.context, ReadWhole(entry, "context", 0, kMaxContextTokens));
  TANDEM_ASSIGN_OR_RETURN(cost.seconds, ReadNumber(entry, "seconds", 0, kLongestCostSeconds));
  return cost;
}

absl::StatusOr<StepOverhead> ReadOverhead(const Json& entry) {
  if (!entry.is_object())
    return absl::DataLossError("expected what a step takes beside its stages");
  StepOverhead overhead;
  for (const auto& [field, seconds] : {std::pair("following_seconds", &overhead.following_seconds),
                                       std::pair("lone_seconds", &overhead.lone_seconds)}) {
    TANDEM_ASSIGN_OR_RETURN(*seconds, ReadNumber(entry, field, 0, kLongestCostSeconds));
  }
  return overhead;
}

// Whatever a driver calls its device.
std::string Text(const Json& file) {
  return file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string WriteCosts(std::string_view key, const WorkerCosts& costs) {
  Json entries = Json::array();
  for (const StageCost& cost : costs.costs) {
    entries.push_back({{"kind", std::string(NameOf(cost.kind))},
                       {"tokens", cost.point.tokens},
                       {"context", cost.point.context},
                       {"seconds", cost.seconds}});
  }
  Json file = {{"version", kFileVersion}, {"key", std::string(key)}, {"costs", entries}};
  if (costs.overhead.has_value()) {
    file["overhead"] = {{"following_seconds", costs.overhead->following_seconds},
                        {"lone_seconds", costs.overhead->lone_seconds}};
  }
  return Text(file);
}

absl::StatusOr<WorkerCosts> ReadCosts(std::string_view text, std::string_view key) {
  TANDEM_ASSIGN_OR_RETURN(const Json file, ReadFile(text, key));
  const auto entries = file.find("costs");
  if (entries == file.end() || !entries->is_array() || entries->empty() ||
      entries->size() > kMostCostPoints * kNumCostKinds)
    return absl::DataLossError("expected some times of stages");
  WorkerCosts costs;
  for (const Json& entry : *entries) {
    TANDEM_ASSIGN_OR_RETURN(const StageCost cost, ReadCost(entry));
    costs.costs.push_back(cost);
  }
  if (const auto overhead = file.find("overhead"); overhead != file.end()) {
    TANDEM_ASSIGN_OR_RETURN(costs.overhead, ReadOverhead(*overhead));
  }
  return costs;
}

std::string WritePair(std::string_view key, const PairCosts& pair) {
  return Text({{"version", kFileVersion},
               {"key", std::string(key)},
               {"slowdown", pair.slowdown},
               {"edge_kind", pair.edge_kind},
               {"hop_seconds", pair.hop.seconds},
               {"row_seconds", pair.hop.row_seconds},
               {"cut_hop_seconds", pair.cut_hop.seconds},
               {"cut_row_seconds", pair.cut_hop.row_seconds},
               {"message_seconds", pair.message_seconds}});
}

absl::StatusOr<PairCosts> ReadPair(std::string_view text, std::string_view key) {
  TANDEM_ASSIGN_OR_RETURN(const Json file, ReadFile(text, key));
  PairCosts pair;
  TANDEM_ASSIGN_OR_RETURN(pair.slowdown, ReadNumber(file, "slowdown", 1, kMostSlowdown));
  const std::pair<const char*, double*> times[] = {{"hop_seconds", &pair.hop.seconds},
                                                   {"row_seconds", &pair.hop.row_seconds},
                                                   {"cut_hop_seconds", &pair.cut_hop.seconds},
                                                   {"cut_row_seconds", &pair.cut_hop.row_seconds},
                                                   {"message_seconds", &pair.message_seconds}};
  for (const auto& [field, seconds] : times) {
    TANDEM_ASSIGN_OR_RETURN(*seconds, ReadNumber(file, field, 0, kLongestCostSeconds));
  }
  if (!HasText(file, "edge_kind")) return absl::DataLossError("expected a kind of edge");
  pair.edge_kind = file["edge_kind"].get<std::string>();
  if (pair.edge_kind.empty()) return pair;
  const absl::Status kind = ParseEnum<HandleKind>("edge_kind", pair.edge_kind).status();
  if (!kind.ok()) return absl::DataLossError(kind.message());
  return pair;
}

}  // namespace tandem
