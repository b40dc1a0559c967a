#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/device/device.h"
#include "lib/model/plan.h"
#include "lib/weights/random_model.h"
#include "lib/weights/region_socket.h"
#include "lib/worker/service.h"
#include "lib/worker/worker_engine.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem {

// A folder of its own for a test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string operator/(const std::string& name) const { return absl::StrCat(path_, "/", name); }

 private:
  std::string path_;
};

// A small model: two kinds of layers, a window shorter than the prompts.
ModelConfig SmallConfig();

// One worker behind a real gRPC server on a Unix socket.
class TestWorker {
 public:
  TestWorker(const TemporaryFolder& folder, const std::string& name,
             std::unique_ptr<Device> device);
  ~TestWorker();

  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }
  const std::string& fd_socket() const { return fd_socket_; }
  v1::Worker::Stub& stub() { return *stub_; }
  WorkerEngine& engine() { return *engine_; }
  int lost() const { return lost_.load(); }
  v1::WorkerDescription Describe();

 private:
  std::string name_;
  std::string address_;
  std::string fd_socket_;
  std::atomic<int> lost_{0};
  std::unique_ptr<WorkerEngine> engine_;
  std::unique_ptr<WorkerService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

// A Steps stream.
class StepsClient {
 public:
  explicit StepsClient(TestWorker& worker) : stream_(worker.stub().Steps(&context_)) {}
  ~StepsClient();
  bool Send(const v1::StepPlan& plan);
  bool Abort(std::uint64_t generation);
  // Code -1 when the stream has ended.
  v1::StepResult Receive();
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StepRequest, v1::StepResult>> stream_;
};

// Workers "npu0" and "gpu0" (both on the CPU device) and a region server with a random model; what
// the gateway does with them.
class TestCluster {
 public:
  using DeviceFactory = std::function<std::unique_ptr<Device>()>;
  explicit TestCluster(WeightFormat format = WeightFormat::kBf16,
                       const DeviceFactory& factory = nullptr);

  const ModelConfig& config() const { return model_.config; }
  TestWorker& worker(const std::string& name) { return *workers_.at(name); }
  void RemoveWorker(const std::string& name) { workers_.erase(name); }
  void StopRegionServer() { regions_.reset(); }

  // What tokens stand for: 0 for nothing, the others for "a" to "z", "aa" to "zz" and so on.
  std::vector<std::string> TokenBytes() const;
  v1::PrepareRequest PrepareRequestFor(const std::string& worker, const Plan& plan,
                                       std::uint64_t generation) const;
  v1::ConnectRequest ConnectRequestFor(const std::string& worker, const Plan& plan,
                                       std::uint64_t generation,
                                       const std::vector<std::string>& kinds) const;
  // Prepares and connects all workers of the plan at the same time; the first failure.
  grpc::Status Start(const Plan& plan, std::uint64_t generation,
                     const std::vector<std::string>& kinds);
  Plan PlanOf(const std::string& name) const;

 private:
  TemporaryFolder folder_;
  RandomModel model_;
  std::unique_ptr<RegionServer> regions_;
  std::vector<RegionManifest> manifests_;
  std::map<std::string, std::unique_ptr<TestWorker>> workers_;
};

// Builds the step plans of one slot as a scheduler would.
class SlotPlanner {
 public:
  SlotPlanner(const ModelConfig& config, std::int32_t slot, std::int32_t first_block)
      : config_(config), slot_(slot), next_block_(first_block) {}
  // Adds the slot's next share to the plan; -1 stands for the last sampled token.
  v1::SequenceShare* Add(v1::StepPlan* plan, const std::vector<std::int32_t>& tokens);
  v1::SequenceStart* Start(v1::StepPlan* plan);
  std::int32_t position() const { return position_; }

 private:
  ModelConfig config_;
  std::int32_t slot_;
  std::int32_t next_block_;
  std::int32_t position_ = 0;
  std::int32_t blocks_ = 0;
};

v1::StepPlan NewStep(std::uint64_t id, std::uint64_t generation, double timeout_seconds = 30);

}  // namespace tandem
