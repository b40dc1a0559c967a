#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gateway/dispatch/cluster.h"
#include "tandem/v1/loader.grpc.pb.h"
#include "tandem/v1/worker.grpc.pb.h"
#include "tests/simulation/fake_model.h"

namespace tandem {

// A folder for sockets that goes away with the object.
class SocketFolder {
 public:
  SocketFolder();
  ~SocketFolder();
  std::string Address(const std::string& name) const { return "unix:" + path_ + "/" + name; }

 private:
  std::string path_;
};

// A small model whose vocabulary and configuration are valid.
v1::Model MakeTestModel();

// A loader that is loading until SetState.
class FakeLoader final : public v1::Loader::Service {
 public:
  explicit FakeLoader(const std::string& address);
  ~FakeLoader() override;
  void SetState(v1::LoadProgress::State state, std::string error = "");
  void SetFingerprint(std::string fingerprint);

 private:
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                        v1::Model* model) override;
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest*,
                     grpc::ServerWriter<v1::LoadProgress>* writer) override;
  grpc::Status GetRegions(grpc::ServerContext*, const v1::GetRegionsRequest* request,
                          v1::GetRegionsResponse* response) override;

  std::mutex mutex_;
  std::condition_variable changed_;
  v1::Model model_;
  v1::LoadProgress progress_;
  bool stopping_ = false;
  std::unique_ptr<grpc::Server> server_;
};

// A worker that computes FakeModel, and fails when told to.
class FakeWorker final : public v1::Worker::Service {
 public:
  FakeWorker(std::string name, std::string role, std::string address);
  ~FakeWorker() override { Kill(); }

  void Start();
  // Memory of the machine that it says its device may take; 0: it does not say.
  void SetBudget(std::uint64_t bytes);
  // The process is gone: connections break.
  void Kill();

  // What happens at the next step that is the `in`-th from now (0: the very next).
  enum class Fault { kBreakStream, kRefuse, kFail, kHang };
  void Inject(Fault fault, int in);
  // While the gate is closed steps wait before they run.
  void CloseGate();
  void OpenGate();
  void WaitUntilAStepWaits();

  // While they are held nobody is told what it is.
  void HoldDescriptions();
  void GiveDescriptions();
  void WaitUntilItIsAsked();

  // It measures: every part of a step takes so long. Before: it cannot.
  void MeasureAs(double seconds);
  // It measures hand-overs, too: so long for one, and half as long again where attention is cut
  // out. Before: it cannot.
  void MeasureEdgesAs(double seconds);
  // It runs steps of what it has measured, too, in no time. Before: it refuses them.
  void RunMeasuredSteps();
  // Those of them that it was sent: with a share, and without one.
  std::pair<int, int> measured_steps() const;
  // Times that it was asked to measure.
  int measured() const;

  // Every Prepare is refused with this; empty: none any more.
  void RefusePrepare(std::string error);

  int steps() const;
  // Times that it was told to give back what a plan had of it.
  int drains() const;
  v1::PrepareRequest prepared() const;

 private:
  grpc::Status Describe(grpc::ServerContext* context, const v1::DescribeRequest*,
                        v1::WorkerDescription* description) override;
  grpc::Status Prepare(grpc::ServerContext*, const v1::PrepareRequest* request,
                       v1::PrepareResponse* response) override;
  grpc::Status Connect(grpc::ServerContext*, const v1::ConnectRequest* request,
                       v1::ConnectResponse* response) override;
  grpc::Status MeasureStages(grpc::ServerContext*, const v1::MeasureStagesRequest* request,
                             v1::StageCosts* response) override;
  grpc::Status RepeatStages(grpc::ServerContext*, const v1::RepeatStagesRequest* request,
                            v1::StageCosts* response) override;
  grpc::Status MeasureEdges(grpc::ServerContext*, const v1::MeasureEdgesRequest* request,
                            v1::EdgeCosts* response) override;
  void AddCosts(const v1::CostPoint& point, double times, v1::StageCosts* response) const;
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::DrainResponse*) override;
  grpc::Status Steps(grpc::ServerContext* context,
                     grpc::ServerReaderWriter<v1::StepResult, v1::StepRequest>* stream) override;
  std::optional<Fault> TakeFault();
  v1::StepResult AnswerMeasured(const v1::StepPlan& plan);
  v1::StepResult RunStep(const v1::StepPlan& plan, std::optional<Fault> fault);
  void WaitAtGate(std::unique_lock<std::mutex>& lock, grpc::ServerContext* context);

  const std::string name_;
  const std::string role_;
  const std::string address_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool gate_closed_ = false;
  bool killed_ = false;
  int waiting_ = 0;
  bool descriptions_held_ = false;
  int asking_ = 0;
  int steps_ = 0;
  int drains_ = 0;
  std::string refusal_;
  std::uint64_t budget_bytes_ = 0;
  double part_seconds_ = 0;
  double edge_seconds_ = 0;
  bool runs_measured_ = false;
  std::pair<int, int> measured_steps_;
  int measured_ = 0;
  std::uint64_t measured_generation_ = 0;
  std::optional<Fault> fault_;
  int fault_in_ = 0;
  v1::PrepareRequest prepared_;
  std::unique_ptr<FakeWorkerState> state_;
  std::unique_ptr<grpc::Server> server_;
};

// Collects what a request gets.
class CollectingSink final : public GenerationSink {
 public:
  void OnPromptScores(std::vector<SampledToken> scores) override;
  void OnPooled(std::vector<float> mean) override;
  void OnToken(const SampledToken& token) override;
  void OnFinish(FinishReason reason, const absl::Status& status) override;

  bool WaitFinished(absl::Duration timeout = absl::Seconds(30));
  FakeText text() const;
  absl::Status status() const;
  bool finished() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  FakeText text_;
  absl::Status status_;
  bool finished_ = false;
};

}  // namespace tandem
