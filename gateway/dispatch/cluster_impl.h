#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gateway/dispatch/cluster.h"
#include "gateway/dispatch/cluster_metrics.h"
#include "gateway/dispatch/cluster_setup.h"
#include "gateway/dispatch/coordinator.h"
#include "gateway/dispatch/edge_specs.h"
#include "gateway/dispatch/links.h"
#include "gateway/dispatch/request_traces.h"
#include "gateway/dispatch/step_model.h"
#include "gateway/dispatch/step_record.h"
#include "gateway/dispatch/trace_collector.h"
#include "lib/base/deadline.h"

namespace tandem {

// The engine thread: messages in, decisions by the coordinator, calls (cluster_actions.cc) and
// deliveries out. Everything below `mutex_` is guarded by it; the engine thread alone writes what
// the workers and the loader have said, so it reads that without the lock. gRPC's threads and the
// loader's bring messages through Post, and answers to steps through OnStepResult. No call to gRPC
// and none to a sink is made under the lock.
class Cluster::Impl {
 public:
  Impl(ClusterSetup setup, std::unique_ptr<LoaderLink> loader,
       std::shared_ptr<prometheus::Registry> registry);
  ~Impl();

  EngineLimits limits() const {
    return {setup_.model.context_tokens, setup_.model.config.vocab_size,
            setup_.model.config.hidden_size, setup_.scheduler.encoder,
            setup_.scheduler.limits.max_tokens};
  }
  absl::Status Ready() const;
  absl::StatusOr<std::uint64_t> Submit(GenerationRequest request,
                                       std::shared_ptr<GenerationSink> sink);
  void Cancel(std::uint64_t handle);
  absl::StatusOr<std::uint64_t> ChangePlan(const std::string& name);
  PlanReport Report() const;
  const ServedModel& model() const { return setup_.model; }
  ClusterStatus Status() const;
  TraceCollector& trace() { return trace_; }

 private:
  // Runs on the engine thread, under the lock.
  using Message = std::function<void(absl::Duration now)>;
  // What a worker has said in this or the last round.
  struct Known {
    v1::WorkerDescription description;
    v1::PrepareResponse prepared;
    v1::ConnectResponse connected;
    ClusterMetrics::WorkerTimes times;
    std::uint32_t restarts = 0;
    // Nanoseconds in which its stages ran.
    RateWindow busy;
  };

  void Post(Message message);
  static absl::Duration Now();

  // The engine thread.
  void Run();
  void WaitForWork(std::unique_lock<std::mutex>& lock);
  void TakeMessages();
  // Counts what was done, and finds the sink of each event.
  void Collect();
  void ShowScheduler();
  void Deliver();
  void FailRemaining();

  void Act(const RecoveryAction& action);
  void Load(const RecoveryAction& action);
  void Describe(const RecoveryAction& action);
  void Prepare(const RecoveryAction& action);
  // Before the first Prepare under a plan, when every worker of it has said what memory it has.
  absl::Status SizeKvCache(const SharedPlan& plan);
  // The generation of `action` is over: what it left at the workers and in the status.
  void Leave(const RecoveryAction& action);
  void EndChange(const RecoveryAction& action);
  // As ChangePlan, for whoever may also while plans are tried.
  absl::StatusOr<std::uint64_t> BeginChange(const std::string& name);
  absl::StatusOr<std::uint64_t> Enqueue(GenerationRequest request,
                                        std::shared_ptr<GenerationSink> sink);
  // Whether all workers of the plan answer; then the change begins.
  struct PlanCheck;
  void CheckWorkers(const SharedPlan& plan);
  void Connect(const RecoveryAction& action);
  void Serve(const RecoveryAction& action);
  void SendStep(StepPlan* plan);
  // Asks the workers for the times of their devices' parts, where somebody wants to know and the
  // last answer is old.
  void RefreshReports();
  absl::Status CheckDescription(std::size_t worker, const v1::WorkerDescription& description) const;
  void OnStepResult(std::uint64_t round, std::size_t worker, const v1::StepResult& result);

  // The thread of `auto` (cluster_auto.cc).
  void RunAuto();
  using Descriptions = std::vector<v1::WorkerDescription>;
  // All of them; nothing when the gateway stops, or they have not all answered in time.
  std::optional<Descriptions> AskWorkers(Deadline deadline);
  bool Stopping() const;
  void ShowTrying(const std::string& what);
  // What to do first, where everything is still to be found out: the engine begins under a plan.
  void StartUnder(const std::string& name);
  // Predicts all plans, tries those that may be the fastest, and chooses. Nothing when the gateway
  // stops.
  std::optional<PlanReport> CompareAndTry(const Descriptions& workers);
  // Of one that is not tried yet.
  PlanTrial PredictPlan(const std::string& name, const Descriptions& workers);
  absl::Status Predict(const StepModel& model, const ClusterPlan& plan, PlanTrial* trial) const;

  // cluster_measure.cc: before the engine has begun. Afterwards step_model_ is there, with what was
  // kept or measured, and what could not be.
  void MeasureWorkers(const Descriptions& workers);
  // The same of what was kept alone; true where that is all there is to know.
  bool ReadMeasured(const Descriptions& workers);
  std::optional<LoaderLink::Loaded> LoadForMeasuring();
  // An answer that the thread of `auto` waits for; guarded.
  template <typename Answer>
  struct Pending {
    bool done = false;
    absl::StatusOr<Answer> answer = absl::UnavailableError("no answer");
  };
  template <typename Answer, typename Response>
  void TakeAnswer(const absl::Status& status, const Response& response,
                  const std::shared_ptr<Pending<Answer>>& pending);
  WorkerCosts MeasureWorker(std::size_t worker, std::uint64_t generation,
                            const v1::WorkerDescription& described,
                            const LoaderLink::Loaded& loaded);
  // cluster_overhead.cc: of a worker whose stages were measured, by steps that go the way of a
  // plan's, into *costs; and of two that are sent every step both.
  void MeasureOverhead(std::size_t worker, std::uint64_t generation, WorkerCosts* costs);
  absl::StatusOr<StepOverhead> TimeSteps(std::size_t worker, std::uint64_t generation,
                                         const WorkerCosts& costs);
  void MeasureMessages(std::uint64_t generation, const std::vector<WorkerCosts>& alone,
                       PairCosts* pair);
  PairCosts MeasurePair(std::size_t first, std::size_t second, std::uint64_t generation,
                        const std::vector<WorkerCosts>& alone);
  // What a hand-over between them takes, into *pair; their stages are gone then.
  absl::Status MeasureEdges(std::uint64_t generation, const Descriptions& workers,
                            const std::vector<WorkerCosts>& alone, PairCosts* pair);
  // Of a plan's edges, while either worker runs its stage; the kind of the edges goes into *kind.
  absl::StatusOr<HopCosts> MeasureHops(std::uint64_t generation, const Descriptions& workers,
                                       const Plan& plan, std::span<const HandoverStage> stages,
                                       const std::vector<v1::HandoverRounds>& rounds,
                                       std::string* kind);
  // Of the plan that cuts attention out of its layers.
  absl::StatusOr<HopCosts> MeasureCutHops(std::uint64_t generation, const Descriptions& workers,
                                          const std::vector<v1::HandoverRounds>& rounds,
                                          std::string* kind);
  EdgeWorker EdgeWorkerOf(std::size_t worker, const v1::WorkerDescription& described) const;
  void SetModel(std::vector<WorkerCosts> workers, std::vector<PairCosts> pairs);
  absl::Status ChangeAndWait(const std::string& name);
  // Until it serves, or does not come to.
  absl::Status WaitForPlan(const std::string& name);
  absl::Status TryPlan(PlanTrial* trial);
  absl::Status Measure(PlanTrial* trial);
  struct TrialTimes {
    // Until the first token, and from there to the last one.
    absl::Duration first;
    absl::Duration rest;
    std::int32_t prompt_tokens = 0;
    std::int32_t answer_tokens = 0;
  };
  absl::StatusOr<TrialTimes> RunTrial(std::int32_t prompt_tokens, std::int32_t answer_tokens);

  // Of PlanChange.
  static constexpr char kChangeRunning[] = "running";
  static constexpr char kChangeDone[] = "done";
  static constexpr char kChangeFailed[] = "failed";

  // Under the lock.
  const ClusterPlan& plan() const { return *coordinator_.recovery().plan(); }
  void OnWorkersChecked(const SharedPlan& plan, const absl::Status& status);
  void FinishChange(const absl::Status& status);
  void OnDescription(std::size_t worker, const v1::WorkerDescription& description);
  std::vector<KvStatus> KvUse() const;
  std::string State() const;
  std::string Detail() const;

  const ClusterSetup setup_;
  ClusterMetrics metrics_;
  TraceCollector trace_;
  std::unique_ptr<LoaderLink> loader_;
  std::vector<std::unique_ptr<WorkerLink>> links_;

  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  bool stop_ = false;
  bool woken_ = false;
  std::vector<Message> inbox_;
  // Answers to steps, and used up ones whose memory is taken again.
  std::vector<std::unique_ptr<StepReply>> replies_;
  std::vector<std::unique_ptr<StepReply>> free_replies_;
  Coordinator coordinator_;
  RequestTraces request_traces_;
  std::unordered_map<std::uint64_t, std::shared_ptr<GenerationSink>> sinks_;
  std::uint64_t next_handle_ = 1;
  // Of the first request that was not a trial.
  std::uint64_t first_handle_ = 1;
  std::uint64_t tokens_total_ = 0;
  RateWindow decode_rate_;
  RateWindow prefill_rate_;
  // Status was asked since the last refresh.
  mutable bool report_wanted_ = false;
  std::string load_text_ = "loading";
  std::uint64_t shown_recoveries_ = 0;
  std::string last_state_;  // as on_state_change was called for
  LoaderLink::Loaded loaded_;
  std::vector<Known> known_;
  PlanChange change_;
  // Not empty: nobody is let in, because plans are tried.
  std::string trying_;
  PlanReport report_;
  // What plans are predicted from; null where nothing was measured.
  std::shared_ptr<const StepModel> step_model_;
  // The loader's regions, as they were when plans were compared: for what plans need of memory.
  std::vector<std::pair<std::string, std::uint64_t>> region_bytes_;
  StepRecord step_record_;
  // For the thread of `auto`: anything may be different.
  std::condition_variable auto_wake_;

  // Of the engine thread alone.
  std::optional<PlanSizes> sizes_;
  // Whose they are.
  SharedPlan sized_plan_;
  // The same, kept because a step must allocate nothing.
  std::vector<Message> messages_;
  std::vector<std::unique_ptr<StepReply>> taken_replies_;
  Coordinator::Effects effects_;
  absl::Duration next_refresh_;
  // Of effects_.events, one each.
  std::vector<std::shared_ptr<GenerationSink>> event_sinks_;

  std::thread engine_;
  std::thread auto_;
};

}  // namespace tandem
