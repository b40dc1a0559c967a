// What a worker does at Prepare: weights and KV cache come to the device beside each other.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

#include "tests/unit/lib/worker/fake_device.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

// Which of Import and CreateKvCache have begun; each goes on when the other has, too.
struct Meeting {
  absl::Status Arrive(bool Meeting::*mine, bool Meeting::*other) {
    std::unique_lock lock(mutex);
    this->*mine = true;
    changed.notify_all();
    if (changed.wait_for(lock, std::chrono::seconds(30), [&] { return this->*other; }))
      return absl::OkStatus();
    return absl::DeadlineExceededError("one of them waits for the other's end");
  }
  bool weights = false;
  bool cache = false;
  std::mutex mutex;
  std::condition_variable changed;
};

class MeetingDevice final : public FakeDevice {
 public:
  explicit MeetingDevice(std::shared_ptr<Meeting> meeting, absl::Status import_result)
      : FakeDevice(std::make_shared<FakeBehaviour>()),
        meeting_(std::move(meeting)),
        import_result_(std::move(import_result)) {}
  absl::StatusOr<std::shared_ptr<const Weights>> Import(std::shared_ptr<const Region> region,
                                                        const ModelConfig& config) override {
    TANDEM_RETURN_IF_ERROR(meeting_->Arrive(&Meeting::weights, &Meeting::cache));
    TANDEM_RETURN_IF_ERROR(import_result_);
    return FakeDevice::Import(std::move(region), config);
  }
  absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig& config,
                                                         const KvCacheSpec& spec) override {
    TANDEM_RETURN_IF_ERROR(meeting_->Arrive(&Meeting::cache, &Meeting::weights));
    return FakeDevice::CreateKvCache(config, spec);
  }

 private:
  std::shared_ptr<Meeting> meeting_;
  absl::Status import_result_;
};

TEST(Prepare, MakesTheCacheWhileWeightsAreImported) {
  TestCluster cluster(WeightFormat::kBf16, [] {
    return std::make_unique<MeetingDevice>(std::make_shared<Meeting>(), absl::OkStatus());
  });
  const grpc::Status status = cluster.Start(cluster.PlanOf("npu"), 1, {});
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(Prepare, SaysWhatCacheStoodBesideWeightsThatDidNotFit) {
  TestCluster cluster(WeightFormat::kBf16, [] {
    return std::make_unique<MeetingDevice>(std::make_shared<Meeting>(),
                                           absl::ResourceExhaustedError("no memory left"));
  });
  const grpc::Status status = cluster.Start(cluster.PlanOf("npu"), 1, {});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("beside a KV cache of 1 bytes"), std::string::npos)
      << status.error_message();
  EXPECT_NE(status.error_message().find("no memory left"), std::string::npos);
}

}  // namespace
}  // namespace tandem
