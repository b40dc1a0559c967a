// What `tandem status --plan` prints.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/reporter.h"

namespace tandem {
namespace {

std::string Milliseconds(double seconds) {
  return seconds > 0 ? fmt::format("{:.3f}", seconds * 1e3) : "-";
}

std::string Off(double predicted, double measured) {
  if (predicted <= 0 || measured <= 0) return "";
  return fmt::format(" ({:+.0f} %)", 100 * (predicted - measured) / measured);
}

// Times of each plan, as predicted and as tried.
std::string PlanRows(const v1::PlanReport& report) {
  std::string text =
      fmt::format("{:<13} {:>24} {:>24} {:>10}  {}\n", "plan", "ms a token of a prompt",
                  "ms a token of an answer", fmt::format("s a request"), "");
  text += fmt::format(
      "{:<13} {:>12}{:>12} {:>12}{:>12} {:>11}  {}\n", "", "predicted", "tried", "predicted",
      "tried", fmt::format("{} + {}", report.usual_prompt_tokens(), report.usual_answer_tokens()),
      "devices");
  for (const v1::PlanTrial& trial : report.trials()) {
    if (!trial.error().empty()) {
      text += fmt::format("  {:<11} cannot: {}\n", trial.plan(), trial.error());
      continue;
    }
    const bool tried = trial.decode_seconds() > 0;
    const double request = tried ? trial.usual_seconds() : trial.predicted_usual_seconds();
    text += fmt::format(
        "  {:<11} {:>12}{:>12} {:>12}{:>12} {:>11.3f}  {}{}\n", trial.plan(),
        Milliseconds(trial.predicted_prefill_seconds()), Milliseconds(trial.prefill_seconds()),
        Milliseconds(trial.predicted_decode_seconds()), Milliseconds(trial.decode_seconds()),
        request, trial.devices(), trial.note().empty() ? "" : fmt::format("; {}", trial.note()));
  }
  return text;
}

// Stages by points.
std::string StageRows(const v1::WorkerTimes& worker) {
  std::string text = fmt::format("stages of {} ({}), ms{}\n", worker.worker(), worker.device(),
                                 worker.kept() ? ", measured at an earlier start" : "");
  if (!worker.error().empty()) return text + fmt::format("  not measured: {}\n", worker.error());
  std::vector<std::pair<int, int>> points;
  std::vector<std::string> kinds;
  const auto add = [](auto* list, const auto& value) {
    if (std::find(list->begin(), list->end(), value) == list->end()) list->push_back(value);
  };
  for (const v1::StageTime& stage : worker.stages()) {
    add(&points, std::pair(stage.tokens(), stage.context()));
    add(&kinds, stage.kind());
  }
  std::sort(points.begin(), points.end());
  text += fmt::format("  {:<18}", "tokens @ context");
  for (const auto& [tokens, context] : points)
    text += fmt::format("{:>11}", fmt::format("{} @ {}", tokens, context));
  text += "\n";
  for (const std::string& kind : kinds) {
    text += fmt::format("  {:<18}", kind);
    for (const std::pair<int, int>& point : points) {
      const auto found = std::find_if(
          worker.stages().begin(), worker.stages().end(), [&](const v1::StageTime& stage) {
            return stage.kind() == kind && std::pair(stage.tokens(), stage.context()) == point;
          });
      text += fmt::format("{:>11}", found == worker.stages().end()
                                        ? "-"
                                        : fmt::format("{:.3f}", found->seconds() * 1e3));
    }
    text += "\n";
  }
  return text;
}

std::string OverheadRow(const v1::WorkerTimes& worker) {
  if (!worker.error().empty()) return "";
  if (!worker.has_overhead()) return "  what a step takes more than its stages is not known\n";
  const v1::StepOverhead& overhead = worker.overhead();
  return fmt::format(
      "  a step takes {:.3f} ms more than its stages, {:.3f} ms where none is under way before "
      "it\n",
      overhead.following_seconds() * 1e3, overhead.lone_seconds() * 1e3);
}

std::string PairRow(const v1::PairTimes& pair) {
  std::string text = fmt::format("{} beside {}: stages take {:.2f} times as long", pair.first(),
                                 pair.second(), pair.slowdown());
  text += fmt::format(", a step that both are sent {:.3f} ms longer", pair.message_seconds() * 1e3);
  if (pair.edge_kind().empty())
    return text + "; no plan of both was tried, so of their edge nothing is known\n";
  text += fmt::format("; a hand-over by {} takes {:.1f} us and {:.2f} us a row", pair.edge_kind(),
                      pair.hop_seconds() * 1e6, pair.row_seconds() * 1e6);
  if (pair.cut_hop_seconds() > 0 || pair.cut_row_seconds() > 0) {
    text += fmt::format(", beside attention that is cut out {:.1f} us and {:.2f} us a row",
                        pair.cut_hop_seconds() * 1e6, pair.cut_row_seconds() * 1e6);
  }
  return text + "\n";
}

std::string StepRow(const v1::StepComparison& step) {
  return fmt::format(
      "  {:<8} {:>5} tokens: {:.3f} ms, predicted {}{}; the median of the last of {} steps\n",
      step.prefill() ? "prefill" : "decode", step.tokens(), step.measured_seconds() * 1e3,
      Milliseconds(step.predicted_seconds()),
      Off(step.predicted_seconds(), step.measured_seconds()), step.steps());
}

}  // namespace

std::string PlanTable(const v1::PlanReport& report) {
  std::string text = fmt::format("plan     {}\n", report.plan());
  if (report.trials_size() == 0) {
    text += "no plans were compared: --plan auto does that when the cluster starts\n";
  } else {
    text += fmt::format("chosen   {}\n", report.chosen().empty() ? "none" : report.chosen());
    text += fmt::format("because  {}\n         {}\n", report.reason(),
                        report.kept() ? "tried at an earlier start" : "tried at this start");
    text += PlanRows(report);
  }
  for (const v1::WorkerTimes& worker : report.workers())
    text += StageRows(worker) + OverheadRow(worker);
  for (const v1::PairTimes& pair : report.pairs()) text += PairRow(pair);
  if (report.steps_size() > 0) text += "steps under this plan, of one request at a time\n";
  for (const v1::StepComparison& step : report.steps()) text += StepRow(step);
  return text;
}

}  // namespace tandem
