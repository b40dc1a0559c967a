#include "gateway/ingress/status_wire.h"

#include <string>

#include "lib/base/version.h"
#include "tandem/v1/control.pb.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {
namespace {

void Fill(const WorkerStatus& from, v1::WorkerStatus& to) {
  to.set_name(from.name);
  to.set_role(std::string(NameOf(from.role)));
  to.set_pid(from.pid);
  to.set_device_kind(from.device_kind);
  to.set_device_name(from.device_name);
  to.set_driver(from.driver);
  to.set_connected(from.connected);
  to.set_address(from.address);
  to.mutable_weight_imports()->Add(from.weight_imports.begin(), from.weight_imports.end());
  for (const DeviceFact& fact : from.device.facts) {
    v1::DeviceFact& wire = *to.add_device_facts();
    wire.set_name(fact.name);
    wire.set_value(fact.value);
  }
  for (const DevicePart& part : from.device.parts) {
    v1::DevicePart& wire = *to.add_device_parts();
    wire.set_name(part.name);
    wire.set_where(part.where);
    wire.set_seconds(part.seconds);
  }
  to.set_metrics(from.metrics);
  to.set_restarts(from.restarts);
  to.set_busy(from.busy);
  to.set_in_plan(from.in_plan);
}

}  // namespace

v1::ClusterStatus ToWire(const ClusterStatus& status) {
  v1::ClusterStatus wire;
  wire.set_state(status.state);
  wire.set_detail(status.detail);
  wire.set_version(kVersion);
  wire.set_plan(status.plan);
  wire.set_model(status.model);
  wire.set_encoder(status.encoder);
  wire.set_weight_format(status.weight_format);
  for (const WorkerStatus& worker : status.workers) Fill(worker, *wire.add_workers());
  for (const EdgeStatus& edge : status.edges) {
    v1::EdgeStatus& to = *wire.add_edges();
    to.set_id(edge.id);
    to.set_from(edge.from);
    to.set_to(edge.to);
    to.set_kind(edge.kind);
  }
  for (const StageStatus& stage : status.stages) {
    v1::StageStatus& to = *wire.add_stages();
    to.set_name(stage.name);
    to.set_worker(stage.worker);
    to.set_device(stage.device);
  }
  wire.set_decode_tokens_per_second(status.decode_tokens_per_second);
  wire.set_prefill_tokens_per_second(status.prefill_tokens_per_second);
  wire.set_running(status.running);
  wire.set_waiting(status.waiting);
  wire.set_requests_total(status.requests_total);
  wire.set_tokens_total(status.tokens_total);
  wire.set_recoveries(status.recoveries);
  for (const KvStatus& kv : status.kv) {
    v1::KvStatus& to = *wire.add_kv();
    to.set_group(kv.group);
    to.set_blocks(kv.blocks);
    to.set_reserved(kv.reserved);
    to.set_taken(kv.taken);
  }
  wire.set_running_limit(status.running_limit);
  wire.set_waiting_limit(status.waiting_limit);
  wire.set_loader_metrics(status.loader_metrics);
  v1::PlanChange& change = *wire.mutable_plan_change();
  change.set_number(status.plan_change.number);
  change.set_from(status.plan_change.from);
  change.set_to(status.plan_change.to);
  change.set_state(status.plan_change.state);
  change.set_error(status.plan_change.error);
  return wire;
}

namespace {

void AddMeasured(const PlanReport& report, v1::PlanReport* wire) {
  for (const WorkerCosts& worker : report.workers) {
    v1::WorkerTimes& to = *wire->add_workers();
    to.set_worker(worker.worker);
    to.set_device(worker.device);
    to.set_error(worker.error);
    to.set_kept(worker.kept);
    for (const StageCost& cost : worker.costs) {
      v1::StageTime& stage = *to.add_stages();
      stage.set_kind(std::string(NameOf(cost.kind)));
      stage.set_tokens(cost.point.tokens);
      stage.set_context(cost.point.context);
      stage.set_seconds(cost.seconds);
    }
    if (!worker.overhead.has_value()) continue;
    to.mutable_overhead()->set_following_seconds(worker.overhead->following_seconds);
    to.mutable_overhead()->set_lone_seconds(worker.overhead->lone_seconds);
  }
  for (const PairCosts& pair : report.pairs) {
    v1::PairTimes& to = *wire->add_pairs();
    to.set_first(pair.first);
    to.set_second(pair.second);
    to.set_slowdown(pair.slowdown);
    to.set_edge_kind(pair.edge_kind);
    to.set_hop_seconds(pair.hop.seconds);
    to.set_row_seconds(pair.hop.row_seconds);
    to.set_cut_hop_seconds(pair.cut_hop.seconds);
    to.set_cut_row_seconds(pair.cut_hop.row_seconds);
    to.set_kept(pair.kept);
    to.set_message_seconds(pair.message_seconds);
  }
  for (const StepComparison& comparison : report.steps) {
    v1::StepComparison& to = *wire->add_steps();
    to.set_prefill(comparison.prefill);
    to.set_steps(comparison.steps);
    to.set_tokens(comparison.tokens);
    to.set_measured_seconds(comparison.measured_seconds);
    to.set_predicted_seconds(comparison.predicted_seconds);
  }
}

}  // namespace

v1::PlanReport ToWire(const PlanReport& report) {
  v1::PlanReport wire;
  for (const PlanTrial& trial : report.trials) {
    v1::PlanTrial& to = *wire.add_trials();
    to.set_plan(trial.plan);
    to.set_devices(trial.devices);
    to.set_prefill_seconds(trial.prefill_seconds);
    to.set_decode_seconds(trial.decode_seconds);
    to.set_error(trial.error);
    to.set_usual_seconds(UsualRequestSeconds(trial));
    to.set_predicted_prefill_seconds(trial.predicted_prefill_seconds);
    to.set_predicted_decode_seconds(trial.predicted_decode_seconds);
    to.set_predicted_usual_seconds(PredictedRequestSeconds(trial));
    to.set_note(trial.note);
  }
  AddMeasured(report, &wire);
  wire.set_chosen(report.chosen);
  wire.set_reason(report.reason);
  wire.set_kept(report.kept);
  wire.set_usual_prompt_tokens(kUsualPromptTokens);
  wire.set_usual_answer_tokens(kUsualAnswerTokens);
  return wire;
}

}  // namespace tandem
