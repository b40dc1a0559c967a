// The plan `auto`: the trials that it is chosen by, made on the cluster itself before it is ready.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/dispatch/cluster_impl.h"
#include "lib/base/checksum.h"
#include "lib/base/clock.h"
#include "lib/base/kept_file.h"
#include "lib/base/status_macros.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

// Before a trial's request comes a short one that warms up. Seconds, on any device that is of use.
constexpr std::int32_t kWarmPromptTokens = 16;
constexpr std::int32_t kWarmAnswerTokens = 2;
constexpr absl::Duration kTrialTimeout = absl::Seconds(20);
// Short ones are made again, because the machine does other things, too; the shortest time counts.
constexpr int kMostTrials = 3;
constexpr absl::Duration kShortTrial = absl::Milliseconds(700);

// Plans are compared when all workers are there; one that is not by then has trouble.
constexpr absl::Duration kWorkersPatience = absl::Seconds(15);
// A worker that starts is asked again and again: nobody tells when it is there.
constexpr absl::Duration kAskTimeout = absl::Seconds(5);
constexpr absl::Duration kAskPause = absl::Milliseconds(50);

constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 20;

// Notes when tokens come.
class TrialSink final : public GenerationSink {
 public:
  void OnPromptScores(std::vector<SampledToken>) override {}
  // All that an encoder answers.
  void OnPooled(std::vector<float>) override { Came(); }
  void OnToken(const SampledToken&) override { Came(); }
  void Came() {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_ = Clock::Real().Uptime();
    if (tokens_++ == 0) first_ = last_;
  }
  void OnFinish(FinishReason reason, const absl::Status& status) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
    status_ = reason == FinishReason::kLength ? absl::OkStatus() : status;
    if (reason != FinishReason::kLength && status.ok())
      status_ = absl::AbortedError("the trial was ended");
    changed_.notify_all();
  }

  bool WaitFinished(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoMicroseconds(timeout),
                             [this] { return finished_; });
  }
  // After its end: when the first and the last token came, or the embedding.
  absl::StatusOr<std::pair<absl::Duration, absl::Duration>> Times() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    TANDEM_RETURN_IF_ERROR(status_);
    return std::pair(first_, last_);
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
  int tokens_ = 0;
  absl::Duration first_;
  absl::Duration last_;
  absl::Status status_;
};

// What a plan's times depend on, as a text of one line.
std::string KeyOf(const ClusterSetup& setup, const std::vector<v1::WorkerDescription>& workers) {
  const ModelConfig& config = setup.model.config;
  std::string key = absl::StrCat(
      "tandem ", kVersion, "; ", config.num_layers, " layers of ", config.hidden_size, " x ",
      config.ffn_size, ", ", config.num_heads, " / ", config.num_kv_heads, " heads of ",
      config.head_dim, ", ", config.vocab_size, " tokens",
      config.bidirectional ? " both ways; " : "; ", setup.model.weight_format, "; ",
      std::string(NameOf(setup.options.activations)), ", ",
      std::string(NameOf(setup.options.kv_type)), ", steps of ", setup.scheduler.limits.max_tokens,
      ", micro-batches ", setup.options.micro_batches);
  for (const v1::WorkerDescription& worker : workers) {
    absl::StrAppend(&key, "; ", worker.name(), " ", worker.device().kind(), " ",
                    worker.device().name(), " (", worker.device().driver(), ")");
  }
  return key;
}

KeptFile FileOf(const ClusterSetup& setup, const std::string& key) {
  return {setup.options.cache_folder,
          absl::StrFormat("plans-%016x", Checksum(std::as_bytes(std::span(key)))), kMostFileBytes};
}

std::optional<std::vector<PlanTrial>> ReadKept(const KeptFile& file, const std::string& key,
                                               const std::vector<std::string>& plans) {
  const absl::StatusOr<std::vector<std::byte>> bytes = file.Load();
  if (bytes.ok() && bytes->empty()) return std::nullopt;
  const absl::StatusOr<std::vector<PlanTrial>> trials =
      bytes.ok()
          ? ReadTrials({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, key, plans)
          : bytes.status();
  if (trials.ok()) return *trials;
  spdlog::warn("plans are tried anew: {}: {}", file.path(), std::string(trials.status().message()));
  return std::nullopt;
}

}  // namespace

bool Cluster::Impl::Stopping() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stop_;
}

void Cluster::Impl::ShowTrying(const std::string& what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  trying_ = what;
}

void Cluster::Impl::StartUnder(const std::string& name) {
  const absl::StatusOr<SharedPlan> made =
      MakeClusterPlan(name, setup_.model.config, setup_.workers(), setup_.options.micro_batches);
  TANDEM_CHECK(made.ok());
  trace_.SetPlan((*made)->plan.name);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    coordinator_.StartUnder(*made, Now());
    woken_ = true;
  }
  wake_.notify_one();
}

// On a thread of its own: a client of the cluster like others, before others are let in.
void Cluster::Impl::RunAuto() {
  std::optional<Descriptions> workers = AskWorkers(Deadline::After(kWorkersPatience));
  if (!workers.has_value()) {
    if (Stopping()) return;
    // The engine says who is missing, and goes on asking.
    StartUnder(setup_.auto_plans.front());
    workers = AskWorkers(Deadline::Never());
    if (!workers.has_value()) return;
  }
  const std::string key = KeyOf(setup_, *workers);
  const KeptFile file = FileOf(setup_, key);
  std::optional<PlanReport> report;
  if (std::optional<std::vector<PlanTrial>> kept = ReadKept(file, key, setup_.auto_plans)) {
    report = ChoosePlan(*std::move(kept));
    report->kept = true;
    ReadMeasured(*workers);
  } else {
    report = CompareAndTry(*workers);
    if (!report.has_value()) return;
    const std::string text = WriteTrials(key, report->trials);
    const absl::Status stored =
        report->chosen.empty() ? absl::OkStatus() : file.Store(std::as_bytes(std::span(text)));
    if (!stored.ok())
      spdlog::warn("the plans' times are not kept: {}", std::string(stored.message()));
  }
  spdlog::info("plan auto: {}", report->reason);
  const std::string chosen = report->chosen;
  bool started = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    report_ = *std::move(report);
    started = coordinator_.recovery().started();
  }
  if (!started) {
    StartUnder(chosen.empty() ? setup_.auto_plans.front() : chosen);
  } else if (!chosen.empty()) {
    ChangeAndWait(chosen).IgnoreError();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  // What clients see begins now.
  trying_.clear();
  first_handle_ = next_handle_;
  tokens_total_ = 0;
  change_ = {};
  woken_ = true;
  wake_.notify_one();
}

std::optional<PlanReport> Cluster::Impl::CompareAndTry(const Descriptions& workers) {
  bool started = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    started = coordinator_.recovery().started();
  }
  // Steps of measured shapes begin inside a text, which an encoder's never do: its plans are tried.
  if (!started && !setup_.scheduler.encoder) MeasureWorkers(workers);
  if (Stopping()) return std::nullopt;
  std::vector<PlanTrial> trials;
  for (const std::string& plan : setup_.auto_plans) trials.push_back(PredictPlan(plan, workers));
  while (const std::optional<std::size_t> next = NextTrial(trials)) {
    PlanTrial& trial = trials[*next];
    if (!std::exchange(started, true)) StartUnder(trial.plan);
    const absl::Status status = TryPlan(&trial);
    if (Stopping()) return std::nullopt;
    trial.error = std::string(status.message());
    if (!status.ok()) continue;
    spdlog::info("plan {}: {:.3g} ms for a token of a prompt, {:.3g} ms for one of an answer",
                 trial.plan, trial.prefill_seconds * 1e3, trial.decode_seconds * 1e3);
  }
  return ChoosePlan(std::move(trials));
}

PlanTrial Cluster::Impl::PredictPlan(const std::string& name, const Descriptions& workers) {
  const absl::StatusOr<SharedPlan> made =
      MakeClusterPlan(name, setup_.model.config, setup_.workers(), setup_.options.micro_batches);
  TANDEM_CHECK(made.ok());
  const ClusterPlan& plan = **made;
  PlanTrial trial;
  trial.plan = name;
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (plan.members[i] == 0) continue;
    absl::StrAppend(&trial.devices, trial.devices.empty() ? "" : ", ", workers[i].name(), " ",
                    workers[i].device().name());
  }
  if (!region_bytes_.empty()) {
    const PlanMemory memory{setup_.model.config, setup_.kv_request, setup_.kv_by_workers,
                            region_bytes_};
    trial.error = std::string(CheckPlanMemory(plan.plan, memory, workers).message());
    if (!trial.error.empty()) return trial;
  }
  absl::Status status = absl::NotFoundError("nothing was measured");
  if (step_model_ != nullptr) status = Predict(*step_model_, plan, &trial);
  if (status.ok()) return trial;
  trial.note = absl::StrCat("not predicted: ", status.message());
  if (!TriedBlindly(name)) trial.error = trial.note;
  return trial;
}

absl::Status Cluster::Impl::Predict(const StepModel& model, const ClusterPlan& plan,
                                    PlanTrial* trial) const {
  const EngineLimits most = limits();
  const std::int32_t prompt =
      std::min({kTrialPromptTokens, most.context_tokens - kTrialAnswerTokens,
                setup_.scheduler.limits.max_tokens});
  if (prompt < 1) return absl::FailedPreconditionError("the context is too short for it");
  TANDEM_ASSIGN_OR_RETURN(
      const StepPrediction prefill,
      model.Predict(RouteOf(plan.plan, /*prefill=*/true),
                    ShapeOf(plan, setup_.options, {prompt, 0}, /*samples=*/true)));
  TANDEM_ASSIGN_OR_RETURN(
      const StepPrediction decode,
      model.Predict(RouteOf(plan.plan, /*prefill=*/false),
                    ShapeOf(plan, setup_.options, {1, prompt + kTrialAnswerTokens / 2},
                            /*samples=*/true)));
  trial->predicted_prefill_seconds = prefill.seconds / prompt;
  trial->predicted_decode_seconds = decode.seconds;
  const bool edges_known =
      std::all_of(model.pairs().begin(), model.pairs().end(),
                  [](const PairCosts& pair) { return !pair.edge_kind.empty(); });
  if (decode.hops + prefill.hops > 0 && !edges_known) trial->note = "without hand-overs";
  return absl::OkStatus();
}

std::optional<Cluster::Impl::Descriptions> Cluster::Impl::AskWorkers(Deadline deadline) {
  struct Answers {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t pending = 0;
    bool complete = true;
    Descriptions workers;
  };
  while (true) {
    const auto answers = std::make_shared<Answers>();
    answers->pending = links_.size();
    answers->workers.resize(links_.size());
    for (std::size_t i = 0; i < links_.size(); ++i) {
      links_[i]->Ask(kAskTimeout, [this, i, answers](const absl::Status& status,
                                                     const v1::WorkerDescription& described) {
        const std::lock_guard<std::mutex> lock(answers->mutex);
        if (!status.ok() || !CheckDescription(i, described).ok()) answers->complete = false;
        answers->workers[i] = described;
        if (--answers->pending == 0) answers->changed.notify_all();
      });
    }
    {
      // Each of them has a deadline.
      std::unique_lock<std::mutex> lock(answers->mutex);
      answers->changed.wait(lock, [&] { return answers->pending == 0; });
      if (answers->complete) return std::move(answers->workers);
    }
    if (deadline.passed()) return std::nullopt;
    std::unique_lock<std::mutex> lock(mutex_);
    if (auto_wake_.wait_for(lock, absl::ToChronoMicroseconds(kAskPause), [this] { return stop_; }))
      return std::nullopt;
  }
}

absl::Status Cluster::Impl::ChangeAndWait(const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(const std::uint64_t number, BeginChange(name));
  std::unique_lock<std::mutex> lock(mutex_);
  auto_wake_.wait(
      lock, [&] { return stop_ || change_.number != number || change_.state != kChangeRunning; });
  if (stop_) return absl::CancelledError("the gateway is stopping");
  return change_.state == kChangeFailed ? absl::UnavailableError(change_.error) : absl::OkStatus();
}

absl::Status Cluster::Impl::WaitForPlan(const std::string& name) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (plan().name == name) {
      const Recovery& recovery = coordinator_.recovery();
      auto_wake_.wait(lock,
                      [&] { return stop_ || recovery.serving() || recovery.start_refusals() > 0; });
      if (stop_) return absl::CancelledError("the gateway is stopping");
      if (!recovery.serving()) return recovery.last_failure();
      return absl::OkStatus();
    }
  }
  return ChangeAndWait(name);
}

absl::Status Cluster::Impl::TryPlan(PlanTrial* trial) {
  ShowTrying(absl::StrCat("trying plan ", trial->plan));
  TANDEM_RETURN_IF_ERROR(WaitForPlan(trial->plan));
  return Measure(trial);
}

absl::Status Cluster::Impl::Measure(PlanTrial* trial) {
  TANDEM_RETURN_IF_ERROR(RunTrial(kWarmPromptTokens, kWarmAnswerTokens).status());
  for (int i = 0; i < kMostTrials; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const TrialTimes times,
                            RunTrial(kTrialPromptTokens, kTrialAnswerTokens));
    const double prefill = absl::ToDoubleSeconds(times.first) / times.prompt_tokens;
    const double decode = absl::ToDoubleSeconds(times.rest) / times.answer_tokens;
    trial->prefill_seconds = i == 0 ? prefill : std::min(trial->prefill_seconds, prefill);
    trial->decode_seconds = i == 0 ? decode : std::min(trial->decode_seconds, decode);
    if (times.first + times.rest > kShortTrial) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<Cluster::Impl::TrialTimes> Cluster::Impl::RunTrial(std::int32_t prompt_tokens,
                                                                  std::int32_t answer_tokens) {
  const EngineLimits most = limits();
  prompt_tokens = std::min(prompt_tokens, most.context_tokens - answer_tokens);
  if (prompt_tokens < 1) return absl::FailedPreconditionError("the context is too short for it");
  GenerationRequest request;
  request.id = "trial";
  // Any tokens do: the time does not depend on them.
  for (std::int32_t i = 0; i < prompt_tokens; ++i)
    request.prompt.push_back((7 * i + 5) % most.vocab_size);
  const bool encoder = setup_.scheduler.encoder;
  request.max_tokens = encoder ? 0 : answer_tokens;
  request.pool_prompt = encoder;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  const auto sink = std::make_shared<TrialSink>();
  const absl::Duration begun = Now();
  TANDEM_ASSIGN_OR_RETURN(const std::uint64_t handle, Enqueue(std::move(request), sink));
  if (!sink->WaitFinished(kTrialTimeout)) {
    Cancel(handle);
    return absl::DeadlineExceededError(
        absl::StrCat("a prompt of ", prompt_tokens, " tokens and an answer of ", answer_tokens,
                     " took more than ", absl::FormatDuration(kTrialTimeout)));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto times, sink->Times());
  // An encoder's answer comes at once: what a token of a prompt takes is all there is to compare.
  if (encoder)
    return TrialTimes{times.first - begun, times.first - begun, prompt_tokens, prompt_tokens};
  return TrialTimes{times.first - begun, times.second - times.first, prompt_tokens,
                    answer_tokens - 1};
}

}  // namespace tandem
