// Residuals over a driver's memory, which the processor and other devices see the same of only
// where a stage has it synchronised.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/weights/random_model.h"

namespace tandem {
namespace {

// What the test looks into, alive as long as the test.
struct Driver {
  std::vector<std::byte> seen_by_devices;
  std::string calls;
  absl::Status fetching, flushing;
};

class DriverMemory final : public SyncedMemory {
 public:
  DriverMemory(Driver* driver, std::uint64_t bytes) : driver_(driver), bytes_(bytes) {
    driver->seen_by_devices.resize(bytes);
  }
  std::span<std::byte> bytes() const override { return bytes_; }
  absl::Status Flush(std::uint64_t offset, std::uint64_t size) override {
    driver_->calls += "flush " + std::to_string(offset) + "+" + std::to_string(size) + "\n";
    std::memcpy(driver_->seen_by_devices.data() + offset, bytes_.data() + offset, size);
    return driver_->flushing;
  }
  absl::Status Fetch(std::uint64_t offset, std::uint64_t size) override {
    driver_->calls += "fetch " + std::to_string(offset) + "+" + std::to_string(size) + "\n";
    std::memcpy(bytes_.data() + offset, driver_->seen_by_devices.data() + offset, size);
    return driver_->fetching;
  }

 private:
  Driver* const driver_;
  mutable std::vector<std::byte> bytes_;
};

class SyncedResidualTest : public ::testing::Test {
 protected:
  static constexpr std::int32_t kHidden = 128;

  void SetUp() override {
    config_.name = "test";
    config_.vocab_size = 256;
    config_.hidden_size = kHidden;
    config_.ffn_size = 128;
    config_.num_layers = 1;
    config_.num_heads = 2;
    config_.num_kv_heads = 1;
    config_.head_dim = 64;
    config_.max_positions = 256;
    config_.sliding_window = 64;
    config_.query_pre_attn_scalar = 64;
    config_.layer_is_global = {true};
    device_ = *CreateCpuDevice({.threads = 1});
    const auto model = MakeRandomModel(config_, WeightFormat::kInt8, 5);
    ASSERT_TRUE(model.ok()) << model.status();
    for (const auto& [name, region] : model->regions)
      spec_.weights.push_back(*device_->Import(region, config_));
    KvCacheSpec kv;
    kv.layers = {0};
    kv.global_blocks = kv.window_blocks = 4;
    cache_ = *device_->CreateKvCache(config_, kv);
    auto residual =
        CpuResidual::Over(layout_, std::make_unique<DriverMemory>(&driver_, layout_.total_bytes()));
    ASSERT_TRUE(residual.ok()) << residual.status();
    residual_ = *std::move(residual);
    spec_.kv_cache = cache_.get();
    spec_.limits = {
        .max_tokens = 8, .max_sequences = 1, .max_logit_rows = 8, .max_blocks_per_sequence = 4};
    spec_.stages = {{{.embed = true}, nullptr, residual_.get()},
                    {{.first_half = 0, .last_half = 2, .head = true}, residual_.get(), nullptr}};
    auto program = device_->Compile(config_, spec_);
    ASSERT_TRUE(program.ok()) << program.status();
    program_ = *std::move(program);
    sequence_ = {.slot = 0, .num_tokens = 3, .global_blocks = blocks_, .window_blocks = blocks_};
    const Step step = {1, tokens_, {&sequence_, 1}, rows_};
    ASSERT_EQ(program_->Begin(0, step), absl::OkStatus());
  }
  absl::Status Run(std::int32_t stage) {
    const auto ticket = program_->Submit(stage, 0, 1, 1);
    return ticket.ok() ? program_->Wait(*ticket, Deadline::After(absl::Minutes(1)))
                       : ticket.status();
  }

  const ResidualLayout layout_ = MakeResidualLayout(2, 8, kHidden);
  const std::vector<std::int32_t> tokens_ = {3, 1, 4}, rows_ = {2}, blocks_ = {2, 0, 1, 3};
  ModelConfig config_;
  Driver driver_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<CpuResidual> residual_;
  ProgramSpec spec_;
  StepSequence sequence_;
  std::unique_ptr<Program> program_;
};

TEST_F(SyncedResidualTest, AStageHasItsRowsSynchronisedAndNothingElse) {
  const std::string rows =
      std::to_string(layout_.slot_bytes) + "+" + std::to_string(3 * kHidden * sizeof(float)) + "\n";
  ASSERT_EQ(Run(0), absl::OkStatus());
  EXPECT_EQ(driver_.calls, "flush " + rows);
  ASSERT_EQ(Run(1), absl::OkStatus());
  EXPECT_EQ(driver_.calls, "flush " + rows + "fetch " + rows);
}

TEST_F(SyncedResidualTest, TheNextStageReadsWhatAnotherDeviceWrote) {
  ASSERT_EQ(Run(0), absl::OkStatus());
  ASSERT_EQ(Run(1), absl::OkStatus());
  const std::vector<float> own(program_->logits(0).begin(), program_->logits(0).end());
  auto* rows = reinterpret_cast<float*>(driver_.seen_by_devices.data() + layout_.slot_bytes);
  for (int i = 0; i < 3 * kHidden; ++i) rows[i] += static_cast<float>(i % 7) * 10;
  ASSERT_EQ(Run(1), absl::OkStatus());
  EXPECT_NE(std::vector<float>(program_->logits(0).begin(), program_->logits(0).end()), own);
}

TEST_F(SyncedResidualTest, MemoryThatCannotBeSynchronisedEndsTheStep) {
  driver_.flushing = absl::InternalError("flushing: No such device");
  EXPECT_EQ(Run(0).code(), absl::StatusCode::kUnavailable);
  driver_.fetching = absl::InternalError("fetching: No such device");
  const absl::Status status = Run(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("fetching: No such device"), std::string::npos) << status;
}

TEST_F(SyncedResidualTest, MemorySmallerThanTheLayoutIsRefused) {
  Driver other;
  EXPECT_EQ(
      CpuResidual::Over(layout_, std::make_unique<DriverMemory>(&other, layout_.total_bytes() - 1))
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem
