#include "tests/unit/gateway/dispatch/fake_cluster.h"

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/stage_cost.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/step_wire.h"

namespace tandem {
namespace {

std::unique_ptr<grpc::Server> Serve(grpc::Service* service, const std::string& address) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  TANDEM_CHECK(server != nullptr);
  return server;
}

}  // namespace

SocketFolder::SocketFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "tandem-test-XXXXXX").string();
  TANDEM_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

SocketFolder::~SocketFolder() { std::filesystem::remove_all(path_); }

v1::Model MakeTestModel() {
  const FakeModel fake;
  ModelConfig config;
  config.name = "fake";
  config.vocab_size = fake.vocab_size;
  config.hidden_size = fake.hidden_size;
  config.ffn_size = 128;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_positions = 256;
  config.sliding_window = 24;
  config.query_pre_attn_scalar = 32;
  config.layer_is_global = {false, true};
  config.eos_ids = {fake.eos_id};
  Vocabulary vocabulary;
  vocabulary.byte_fallback = false;
  for (std::int32_t i = 0; i < fake.vocab_size; ++i) {
    vocabulary.pieces.push_back(
        {absl::StrCat("piece", i), 0.0f, i == 3 ? PieceType::kUnknown : PieceType::kNormal, false});
  }
  vocabulary.unk_id = 3;
  vocabulary.bos_id = 2;
  vocabulary.eos_id = 1;
  v1::Model model;
  *model.mutable_config() = ToProto(config);
  *model.mutable_vocabulary() = ToProto(vocabulary);
  model.set_weight_format("bf16");
  model.set_weight_bytes(1 << 20);
  model.set_fingerprint("one");
  model.set_region_socket("regions.sock");
  return model;
}

FakeLoader::FakeLoader(const std::string& address) : model_(MakeTestModel()) {
  progress_.set_state(v1::LoadProgress::LOADING);
  progress_.set_bytes_done(42);
  progress_.set_bytes_total(100);
  server_ = Serve(this, address);
}

FakeLoader::~FakeLoader() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  server_->Shutdown(std::chrono::system_clock::now());
}

void FakeLoader::SetState(v1::LoadProgress::State state, std::string error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  progress_.set_state(state);
  progress_.set_error(std::move(error));
  changed_.notify_all();
}

void FakeLoader::SetFingerprint(std::string fingerprint) {
  const std::lock_guard<std::mutex> lock(mutex_);
  model_.set_fingerprint(std::move(fingerprint));
}

grpc::Status FakeLoader::GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                                  v1::Model* model) {
  const std::lock_guard<std::mutex> lock(mutex_);
  *model = model_;
  return grpc::Status::OK;
}

grpc::Status FakeLoader::Watch(grpc::ServerContext* context, const v1::WatchRequest*,
                               grpc::ServerWriter<v1::LoadProgress>* writer) {
  std::unique_lock<std::mutex> lock(mutex_);
  writer->Write(progress_);
  while (progress_.state() == v1::LoadProgress::LOADING && !stopping_) {
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
  writer->Write(progress_);
  return grpc::Status::OK;
}

grpc::Status FakeLoader::GetRegions(grpc::ServerContext*, const v1::GetRegionsRequest* request,
                                    v1::GetRegionsResponse* response) {
  for (const std::string& name : request->names()) response->add_regions()->set_name(name);
  return grpc::Status::OK;
}

FakeWorker::FakeWorker(std::string name, std::string role, std::string address)
    : name_(std::move(name)), role_(std::move(role)), address_(std::move(address)) {
  Start();
}

void FakeWorker::Start() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    killed_ = false;
    state_.reset();
    prepared_.Clear();
  }
  server_ = Serve(this, address_);
}

void FakeWorker::Kill() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    killed_ = true;
  }
  changed_.notify_all();
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

void FakeWorker::Inject(Fault fault, int in) {
  const std::lock_guard<std::mutex> lock(mutex_);
  fault_ = fault;
  fault_in_ = in;
}

void FakeWorker::SetBudget(std::uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  budget_bytes_ = bytes;
}

void FakeWorker::CloseGate() {
  const std::lock_guard<std::mutex> lock(mutex_);
  gate_closed_ = true;
}

void FakeWorker::OpenGate() {
  const std::lock_guard<std::mutex> lock(mutex_);
  gate_closed_ = false;
  changed_.notify_all();
}

void FakeWorker::WaitUntilAStepWaits() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return waiting_ > 0; });
}

void FakeWorker::HoldDescriptions() {
  const std::lock_guard<std::mutex> lock(mutex_);
  descriptions_held_ = true;
}

void FakeWorker::GiveDescriptions() {
  const std::lock_guard<std::mutex> lock(mutex_);
  descriptions_held_ = false;
  changed_.notify_all();
}

void FakeWorker::WaitUntilItIsAsked() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return asking_ > 0; });
}

void FakeWorker::RefusePrepare(std::string error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  refusal_ = std::move(error);
}

void FakeWorker::MeasureAs(double seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  part_seconds_ = seconds;
}

void FakeWorker::MeasureEdgesAs(double seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  edge_seconds_ = seconds;
}

void FakeWorker::RunMeasuredSteps() {
  const std::lock_guard<std::mutex> lock(mutex_);
  runs_measured_ = true;
}

std::pair<int, int> FakeWorker::measured_steps() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return measured_steps_;
}

int FakeWorker::measured() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return measured_;
}

void FakeWorker::AddCosts(const v1::CostPoint& point, double times,
                          v1::StageCosts* response) const {
  for (const auto& entry : kEnumNames<CostKind>) {
    v1::StageCost& cost = *response->add_costs();
    cost.set_kind(std::string(entry.name));
    *cost.mutable_point() = point;
    cost.set_seconds(entry.value == CostKind::kSubmission ? 0 : part_seconds_ * times);
  }
}

grpc::Status FakeWorker::MeasureStages(grpc::ServerContext*,
                                       const v1::MeasureStagesRequest* request,
                                       v1::StageCosts* response) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (part_seconds_ == 0) return {grpc::StatusCode::UNIMPLEMENTED, "it has no stopwatch"};
  // Both kinds of layers, the embedding and their halves.
  if (request->regions_size() != 5 || request->generation() <= prepared_.generation())
    return {grpc::StatusCode::INVALID_ARGUMENT, "another request was expected"};
  ++measured_;
  measured_generation_ = request->generation();
  for (const v1::CostPoint& point : request->points()) AddCosts(point, point.tokens(), response);
  return grpc::Status::OK;
}

grpc::Status FakeWorker::RepeatStages(grpc::ServerContext*, const v1::RepeatStagesRequest* request,
                                      v1::StageCosts* response) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (request->generation() != measured_generation_)
    return {grpc::StatusCode::FAILED_PRECONDITION, "it has not measured"};
  AddCosts(request->point(), 1.5 * request->point().tokens(), response);
  return grpc::Status::OK;
}

grpc::Status FakeWorker::MeasureEdges(grpc::ServerContext*, const v1::MeasureEdgesRequest* request,
                                      v1::EdgeCosts* response) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (edge_seconds_ == 0) return {grpc::StatusCode::UNIMPLEMENTED, "it hands nothing over"};
  if (request->generation() != measured_generation_ || request->edges_size() != 2 ||
      request->edges(0).from() != name_ || request->edges(1).to() != name_)
    return {grpc::StatusCode::INVALID_ARGUMENT, "that is not mine"};
  const bool cut = request->stage() == (role_ == "gpu" ? "attend" : "products");
  if (!cut && request->stage() != "feed-forward")
    return {grpc::StatusCode::INVALID_ARGUMENT, "that is not my stage"};
  response->set_kind(request->edges(0).kinds(0));
  for (const v1::HandoverRounds& rounds : request->rounds()) {
    v1::HandoverCost& cost = *response->add_costs();
    cost.set_rows(rounds.rows());
    cost.set_stage_seconds(part_seconds_);
    cost.set_round_seconds(2 * part_seconds_ + (cut ? 3 : 2) * edge_seconds_);
  }
  return grpc::Status::OK;
}

int FakeWorker::drains() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return drains_;
}

grpc::Status FakeWorker::Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::DrainResponse*) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++drains_;
  return grpc::Status::OK;
}

int FakeWorker::steps() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return steps_;
}

v1::PrepareRequest FakeWorker::prepared() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return prepared_;
}

grpc::Status FakeWorker::Describe(grpc::ServerContext* context, const v1::DescribeRequest*,
                                  v1::WorkerDescription* description) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++asking_;
  changed_.notify_all();
  while (descriptions_held_ && !killed_ && !context->IsCancelled())
    changed_.wait_for(lock, std::chrono::milliseconds(10));
  --asking_;
  description->set_name(name_);
  description->set_role(role_);
  description->set_pid(4711);
  description->mutable_device()->set_kind("cpu");
  description->mutable_device()->set_name("fake device");
  description->mutable_device()->set_budget_bytes(budget_bytes_);
  description->set_fd_socket(name_ + ".fd");
  v1::MemoryAbility* by_pointer = description->mutable_memory()->mutable_host_pointer();
  by_pointer->set_import_bytes(std::uint64_t{1} << 30);
  by_pointer->set_export_bytes(std::uint64_t{1} << 30);
  description->set_host("here");
  description->set_generation(prepared_.generation());
  return grpc::Status::OK;
}

grpc::Status FakeWorker::Prepare(grpc::ServerContext*, const v1::PrepareRequest* request,
                                 v1::PrepareResponse* response) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (request->generation() <= prepared_.generation())
    return {grpc::StatusCode::FAILED_PRECONDITION, "an old generation"};
  if (!refusal_.empty()) return {grpc::StatusCode::RESOURCE_EXHAUSTED, refusal_};
  prepared_ = *request;
  const absl::StatusOr<StepLimits> limits = FromProto(request->limits());
  if (!limits.ok())
    return {grpc::StatusCode::INVALID_ARGUMENT, std::string(limits.status().message())};
  state_ =
      std::make_unique<FakeWorkerState>(FakeModel(), *limits, request->config().sliding_window(),
                                        request->global_blocks(), request->window_blocks());
  for (const v1::RegionManifest& region : request->regions()) {
    v1::WeightsDescription& weights = *response->add_weights();
    weights.set_region(region.name());
    weights.set_import_kind("host-pointer");
  }
  return grpc::Status::OK;
}

grpc::Status FakeWorker::Connect(grpc::ServerContext*, const v1::ConnectRequest* request,
                                 v1::ConnectResponse* response) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (request->generation() != prepared_.generation())
    return {grpc::StatusCode::FAILED_PRECONDITION, "not prepared"};
  for (const v1::EdgeSpec& spec : request->edges()) {
    v1::EdgeDescription& edge = *response->add_edges();
    edge.set_id(spec.id());
    edge.set_from(spec.from());
    edge.set_to(spec.to());
    edge.set_kind(spec.kinds(0));
  }
  response->add_stages()->set_name("all of it");
  return grpc::Status::OK;
}

std::optional<FakeWorker::Fault> FakeWorker::TakeFault() {
  if (!fault_.has_value() || fault_in_-- > 0) return std::nullopt;
  return std::exchange(fault_, std::nullopt);
}

v1::StepResult FakeWorker::AnswerMeasured(const v1::StepPlan& plan) {
  v1::StepResult result;
  result.set_step_id(plan.step_id());
  result.set_generation(plan.generation());
  if (plan.sequences().empty()) {
    ++measured_steps_.second;
    return result;
  }
  ++measured_steps_.first;
  for (int i = 0; i < plan.sequences_size(); ++i)
    result.add_sequences()->mutable_sampled()->set_token(1);
  return result;
}

v1::StepResult FakeWorker::RunStep(const v1::StepPlan& plan, std::optional<Fault> fault) {
  v1::StepResult refusal;
  refusal.set_step_id(plan.step_id());
  refusal.set_generation(plan.generation());
  if (fault == Fault::kRefuse || fault == Fault::kFail) {
    refusal.set_code(static_cast<int>(fault == Fault::kRefuse ? absl::StatusCode::kInvalidArgument
                                                              : absl::StatusCode::kUnavailable));
    refusal.set_error("injected");
    return refusal;
  }
  if (runs_measured_ && plan.generation() == measured_generation_ &&
      prepared_.generation() < measured_generation_)
    return AnswerMeasured(plan);
  if (plan.generation() != prepared_.generation()) {
    refusal.set_code(static_cast<int>(absl::StatusCode::kFailedPrecondition));
    return refusal;
  }
  absl::StatusOr<StepResult> result = state_->Run(FromProto(plan));
  if (!result.ok()) {
    refusal.set_code(static_cast<int>(result.status().code()));
    refusal.set_error(std::string(result.status().message()));
    return refusal;
  }
  ++steps_;
  const bool head = prepared_.plan().routes(0).stages().rbegin()->worker() == prepared_.worker();
  std::erase_if(result->sequences,
                [head](const SequenceResult& sequence) { return sequence.status.ok() && !head; });
  result->generation = plan.generation();
  v1::StepResult message = ToProto(*result);
  message.set_run_seconds(0.25);
  return message;
}

void FakeWorker::WaitAtGate(std::unique_lock<std::mutex>& lock, grpc::ServerContext* context) {
  ++waiting_;
  changed_.notify_all();
  while (gate_closed_ && !killed_ && !context->IsCancelled())
    changed_.wait_for(lock, std::chrono::milliseconds(10));
  --waiting_;
}

grpc::Status FakeWorker::Steps(grpc::ServerContext* context,
                               grpc::ServerReaderWriter<v1::StepResult, v1::StepRequest>* stream) {
  v1::StepRequest request;
  while (stream->Read(&request)) {
    std::unique_lock<std::mutex> lock(mutex_);
    const std::optional<Fault> fault = TakeFault();
    if (fault == Fault::kHang) gate_closed_ = true;
    if (gate_closed_) WaitAtGate(lock, context);
    if (killed_ || fault == Fault::kBreakStream) return {grpc::StatusCode::UNAVAILABLE, "injected"};
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    const v1::StepResult result = RunStep(request.step(), fault);
    lock.unlock();
    stream->Write(result);
  }
  return grpc::Status::OK;
}

void CollectingSink::OnPromptScores(std::vector<SampledToken> scores) {
  const std::lock_guard<std::mutex> lock(mutex_);
  TANDEM_CHECK(!finished_ && text_.tokens.empty() && text_.scores.empty());
  text_.scores = std::move(scores);
}

void CollectingSink::OnPooled(std::vector<float> mean) {
  const std::lock_guard<std::mutex> lock(mutex_);
  TANDEM_CHECK(!finished_ && text_.tokens.empty() && text_.pooled.empty());
  text_.pooled = std::move(mean);
}

void CollectingSink::OnToken(const SampledToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  TANDEM_CHECK(!finished_);
  text_.tokens.push_back(token.token);
  changed_.notify_all();
}

void CollectingSink::OnFinish(FinishReason reason, const absl::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  TANDEM_CHECK(!finished_);
  finished_ = true;
  text_.reason = reason;
  status_ = status;
  changed_.notify_all();
}

bool CollectingSink::WaitFinished(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout), [this] { return finished_; });
}

FakeText CollectingSink::text() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return text_;
}

absl::Status CollectingSink::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

bool CollectingSink::finished() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return finished_;
}

}  // namespace tandem
