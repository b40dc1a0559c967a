#include "tests/unit/lib/worker/test_cluster.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "lib/worker/edge.h"

#if defined(__SANITIZE_THREAD__)
// Debian's gRPC is not instrumented: what it hands from thread to thread looks like races. Reports
// with it in a stack are dropped; those among our own threads stay.
extern "C" const char* __tsan_default_suppressions() {
  return "race:libgrpc\nrace:libgrpc++\nrace:libgpr\nrace:libabsl\nrace:libupb\nrace:libprotobuf\n"
         "race:^grpc::\nrace:grpc_core::\nrace:google::protobuf\n"
         "called_from_lib:libgrpc.so\ncalled_from_lib:libgrpc++.so\n";
}
#endif

namespace tandem {
namespace {

std::unique_ptr<Device> MakeCpuDevice() {
  absl::StatusOr<std::unique_ptr<Device>> device = CreateCpuDevice({.threads = 2});
  TANDEM_CHECK(device.ok());
  return *std::move(device);
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "tandem-XXXXXX").string();
  TANDEM_CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

ModelConfig SmallConfig() {
  ModelConfig config;
  config.name = "small";
  config.vocab_size = 160;
  config.hidden_size = 96;
  config.ffn_size = 160;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_positions = 4096;
  config.sliding_window = 18;
  config.query_pre_attn_scalar = 24;
  config.rope_factor_global = 8;
  config.layer_is_global = {false, true, false};
  return config;
}

TestWorker::TestWorker(const TemporaryFolder& folder, const std::string& name,
                       std::unique_ptr<Device> device)
    : name_(name),
      address_("unix:" + (folder / (name + ".sock"))),
      fd_socket_(folder / (name + ".fd")) {
  WorkerEngine::Options options;
  options.name = name;
  options.role = name.starts_with("npu") ? WorkerRole::kNpu : WorkerRole::kGpu;
  options.fd_socket = fd_socket_;
  options.on_device_lost = [this](const absl::Status&) { lost_.fetch_add(1); };
  options.on_health = [](bool) {};
  absl::StatusOr<std::unique_ptr<WorkerEngine>> engine =
      WorkerEngine::Create(std::move(options), std::move(device));
  TANDEM_CHECK(engine.ok());
  engine_ = *std::move(engine);
  service_ = std::make_unique<WorkerService>(*engine_);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  builder.RegisterService(service_->service());
  server_ = builder.BuildAndStart();
  TANDEM_CHECK(server_ != nullptr);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::Worker::NewStub(
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
}

TestWorker::~TestWorker() {
  engine_->Supersede(~std::uint64_t{0});
  service_->EndStreams();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

v1::WorkerDescription TestWorker::Describe() {
  grpc::ClientContext context;
  v1::WorkerDescription description;
  EXPECT_TRUE(stub_->Describe(&context, {}, &description).ok());
  return description;
}

StepsClient::~StepsClient() {
  context_.TryCancel();
  stream_->Finish();
}

bool StepsClient::Send(const v1::StepPlan& plan) {
  v1::StepRequest request;
  *request.mutable_step() = plan;
  return stream_->Write(request);
}

bool StepsClient::Abort(std::uint64_t generation) {
  v1::StepRequest request;
  request.mutable_abort()->set_generation(generation);
  request.mutable_abort()->set_reason("test");
  return stream_->Write(request);
}

v1::StepResult StepsClient::Receive() {
  v1::StepResult result;
  if (!stream_->Read(&result)) result.set_code(-1);
  return result;
}

TestCluster::TestCluster(WeightFormat format, const DeviceFactory& factory) {
  absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), format, 7);
  TANDEM_CHECK(model.ok());
  model_ = *std::move(model);
  absl::StatusOr<std::unique_ptr<RegionServer>> server = RegionServer::Listen(folder_ / "regions");
  TANDEM_CHECK(server.ok());
  regions_ = *std::move(server);
  for (const auto& [name, region] : model_.regions) {
    absl::StatusOr<UniqueFd> fd = Duplicate(region->fd());
    TANDEM_CHECK(fd.ok() && regions_->Publish(region->manifest(), *std::move(fd)).ok());
    manifests_.push_back(region->manifest());
  }
  for (const char* name : {"npu0", "gpu0"}) {
    workers_[name] = std::make_unique<TestWorker>(folder_, name,
                                                  factory == nullptr ? MakeCpuDevice() : factory());
  }
}

Plan TestCluster::PlanOf(const std::string& name) const {
  absl::StatusOr<Plan> plan =
      MakePlan(name, model_.config, {{"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}});
  TANDEM_CHECK(plan.ok());
  return *plan;
}

std::vector<std::string> TestCluster::TokenBytes() const {
  std::vector<std::string> tokens(static_cast<std::size_t>(model_.config.vocab_size));
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const char letter = static_cast<char>('a' + (i - 1) % 26);
    tokens[i] = std::string(1 + (i - 1) / 26, letter);
  }
  return tokens;
}

v1::PrepareRequest TestCluster::PrepareRequestFor(const std::string& worker, const Plan& plan,
                                                  std::uint64_t generation) const {
  v1::PrepareRequest request;
  request.set_generation(generation);
  request.set_worker(worker);
  *request.mutable_plan() = ToProto(plan);
  *request.mutable_config() = ToProto(model_.config);
  request.set_fingerprint("small-7");
  for (const RegionManifest& manifest : manifests_) *request.add_regions() = ToProto(manifest);
  request.set_region_socket(folder_ / "regions");
  *request.mutable_limits() = ToProto(StepLimits{
      .max_tokens = 64, .max_sequences = 4, .max_logit_rows = 64, .max_blocks_per_sequence = 16});
  request.set_global_blocks(40);
  request.set_window_blocks(40);
  request.set_activations("float32");
  request.set_kv_type("float32");
  request.set_max_micro_batches(3);
  for (const std::string& bytes : TokenBytes()) *request.add_token_bytes() = bytes;
  return request;
}

v1::ConnectRequest TestCluster::ConnectRequestFor(const std::string& worker, const Plan& plan,
                                                  std::uint64_t generation,
                                                  const std::vector<std::string>& kinds) const {
  v1::ConnectRequest request;
  request.set_generation(generation);
  request.set_timeout_seconds(20);
  for (const PlanEdge& edge : EdgesOf(plan)) {
    if (edge.from != worker && edge.to != worker) continue;
    v1::EdgeSpec* spec = request.add_edges();
    spec->set_id(absl::StrCat(edge.from, ">", edge.to));
    spec->set_from(edge.from);
    spec->set_to(edge.to);
    spec->set_owner("npu0");
    spec->set_owner_fd_socket(workers_.at("npu0")->fd_socket());
    spec->set_consumer_address(workers_.at(edge.to)->address());
    for (const std::string& kind : kinds) spec->add_kinds(kind);
    spec->set_slots(3);
  }
  return request;
}

grpc::Status TestCluster::Start(const Plan& plan, std::uint64_t generation,
                                const std::vector<std::string>& kinds) {
  const std::set<std::string> of_plan = WorkersOf(plan);
  const std::vector<std::string> names(of_plan.begin(), of_plan.end());
  std::vector<grpc::Status> statuses(names.size());
  const auto on_all = [&](const auto& call) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < names.size(); ++i)
      threads.emplace_back([&, i] { statuses[i] = call(names[i]); });
    for (std::thread& thread : threads) thread.join();
    for (const grpc::Status& status : statuses) {
      if (!status.ok()) return status;
    }
    return grpc::Status::OK;
  };
  const grpc::Status prepared = on_all([&](const std::string& name) {
    grpc::ClientContext context;
    v1::PrepareResponse response;
    return workers_.at(name)->stub().Prepare(&context, PrepareRequestFor(name, plan, generation),
                                             &response);
  });
  if (!prepared.ok()) return prepared;
  return on_all([&](const std::string& name) {
    grpc::ClientContext context;
    v1::ConnectResponse response;
    return workers_.at(name)->stub().Connect(
        &context, ConnectRequestFor(name, plan, generation, kinds), &response);
  });
}

v1::SequenceStart* SlotPlanner::Start(v1::StepPlan* plan) {
  position_ = 0;
  blocks_ = 0;
  v1::SequenceStart* start = plan->add_starts();
  start->set_slot(slot_);
  start->mutable_sampling()->set_temperature(0);
  start->mutable_sampling()->set_top_p(1);
  start->mutable_sampling()->set_num_logprobs(5);
  return start;
}

v1::SequenceShare* SlotPlanner::Add(v1::StepPlan* plan, const std::vector<std::int32_t>& tokens) {
  v1::SequenceShare* share = plan->add_sequences();
  share->set_slot(slot_);
  share->set_first_position(position_);
  for (const std::int32_t token : tokens) share->add_tokens(token);
  const std::int32_t first_seen = std::max(0, position_ - config_.sliding_window + 1);
  share->set_window_blocks_left(first_seen / kKvBlockTokens);
  position_ += static_cast<std::int32_t>(tokens.size());
  for (; blocks_ * kKvBlockTokens < position_; ++blocks_) {
    share->add_new_global_blocks(next_block_);
    share->add_new_window_blocks(next_block_++);
  }
  share->set_next_token(-1);
  return share;
}

v1::StepPlan NewStep(std::uint64_t id, std::uint64_t generation, double timeout_seconds) {
  v1::StepPlan plan;
  plan.set_step_id(id);
  plan.set_generation(generation);
  plan.set_timeout_seconds(timeout_seconds);
  return plan;
}

}  // namespace tandem
