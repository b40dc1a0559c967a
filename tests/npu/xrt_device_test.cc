// The XRT device: the CPU device's stages with every matrix product on the NPU, through unmodified
// XRT over the stand-in for the kernel driver.
#include "npu-worker/xrt/xrt_device.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/shared_memory.h"
#include "lib/device/conformance/conformance_cases.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/device/cpu/cpu_memory.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

XrtDeviceOptions Options() {
  const char* folder = std::getenv("TANDEM_NPU_PACKAGES");
  return {.kernels = folder == nullptr ? "" : folder, .threads = 2};
}

std::string FactOf(const Device& device, const std::string& name) {
  for (const DeviceFact& fact : device.Report().facts) {
    if (fact.name == name) return fact.value;
  }
  return "";
}

class XrtDeviceTest : public ::testing::Test {
 protected:
  void TearDown() override {
    unsetenv("FAKE_AMDXDNA_FAULTS");
    unsetenv("FAKE_AMDXDNA_PINNED");
  }
  static std::unique_ptr<Device> Make(const XrtDeviceOptions& options = Options()) {
    auto device = CreateXrtDevice(options);
    EXPECT_TRUE(device.ok()) << device.status();
    return device.ok() ? *std::move(device) : nullptr;
  }
  static std::unique_ptr<ModelRunner> Run(Device* device, WeightFormat format,
                                          absl::Status* status) {
    const auto model = MakeConformanceModel(ConformanceConfig(), format);
    EXPECT_TRUE(model.ok()) << model.status();
    RunnerOptions options;
    options.activations = ActivationType::kInt8;
    auto runner = ModelRunner::Make(device, model->config, model->regions, options);
    *status = runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }
};

TEST_F(XrtDeviceTest, SaysWhatItIs) {
  const auto device = Make();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->info().kind, "xrt");
  EXPECT_THAT(device->info().name, HasSubstr("NPU "));
  EXPECT_THAT(device->info().driver, HasSubstr("XRT 2."));
  EXPECT_THAT(device->info().driver, HasSubstr("attention"));
  EXPECT_EQ(device->Probe(), absl::OkStatus());
  EXPECT_GT(device->counters().submissions, 0U);
}

TEST_F(XrtDeviceTest, AnswersAsTheCpuDeviceDoes) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const auto device = Make();
    const auto cpu = CreateCpuDevice({.threads = 2});
    ASSERT_TRUE(cpu.ok());
    absl::Status status;
    const auto on_npu = Run(device.get(), format, &status);
    ASSERT_NE(on_npu, nullptr) << status;
    const auto on_cpu = Run(cpu->get(), format, &status);
    ASSERT_NE(on_cpu, nullptr) << status;
    const std::vector<std::int32_t> prompt = RandomTokens(ConformanceConfig(), 40, 1);
    const auto found = on_npu->Prefill(0, prompt, 24);
    const auto expected = on_cpu->Prefill(0, prompt, 24);
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_TRUE(expected.ok());
    // Sums of whole rows are added in another order: the last bits differ, and once in a while a
    // value is rounded to the neighbouring int8, which later tokens see through the cache.
    const auto vocab = static_cast<std::size_t>(ConformanceConfig().vocab_size);
    EXPECT_LT(Compare(std::span(*expected).first(vocab), std::span(*found).first(vocab)).largest,
              1e-5);
    EXPECT_LT(Compare(*expected, *found).largest, 0.1);
    EXPECT_LT(Compare(*expected, *found).mean, 0.02);
  }
}

// Queries, keys and values; the output; gate and up; down: four submissions a layer, and the
// head's.
TEST_F(XrtDeviceTest, ProductsOfOneInputRunFromOneSubmission) {
  const auto device = Make();
  const auto cpu = CreateCpuDevice({.threads = 1});
  ASSERT_TRUE(cpu.ok());
  std::uint64_t submissions[2] = {};
  for (std::size_t i = 0; i < 2; ++i) {
    Device* const on = i == 0 ? device.get() : cpu->get();
    absl::Status status;
    const auto runner = Run(on, WeightFormat::kInt8, &status);
    ASSERT_NE(runner, nullptr) << status;
    const std::uint64_t before = on->counters().submissions;
    ASSERT_TRUE(runner->Prefill(0, RandomTokens(ConformanceConfig(), 8, 1), 8).ok());
    submissions[i] = on->counters().submissions - before;
  }
  const auto layers = static_cast<std::uint64_t>(ConformanceConfig().num_layers);
  EXPECT_EQ(submissions[0] - submissions[1], 4 * layers + 1);
}

TEST_F(XrtDeviceTest, AutoMeansInt8) {
  const auto device = Make();
  const auto model = MakeConformanceModel(ConformanceConfig(), WeightFormat::kInt8);
  ASSERT_TRUE(model.ok());
  RunnerOptions options;
  options.activations = ActivationType::kAuto;
  const std::vector<std::int32_t> prompt = RandomTokens(ConformanceConfig(), 12, 1);
  const auto automatic = ModelRunner::Make(device.get(), model->config, model->regions, options);
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  options.activations = ActivationType::kInt8;
  const auto int8 = ModelRunner::Make(device.get(), model->config, model->regions, options);
  ASSERT_TRUE(int8.ok()) << int8.status();
  EXPECT_EQ(*(*automatic)->Prefill(0, prompt, 12), *(*int8)->Prefill(0, prompt, 12));
}

TEST_F(XrtDeviceTest, OtherActivationsAreRefusedAndNotComputedElsewhere) {
  const auto device = Make();
  const auto model = MakeConformanceModel(ConformanceConfig(), WeightFormat::kInt8);
  ASSERT_TRUE(model.ok());
  const auto runner = ModelRunner::Make(device.get(), model->config, model->regions, {});
  EXPECT_EQ(runner.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(runner.status().message()), HasSubstr("--activations=int8 or auto"));
}

TEST_F(XrtDeviceTest, WeightsPastTheBudgetAreRefused) {
  XrtDeviceOptions options = Options();
  // The model takes 626,688 bytes in the array's order.
  options.weights_budget = 500000;
  const auto device = Make(options);
  absl::Status status;
  EXPECT_EQ(Run(device.get(), WeightFormat::kInt8, &status), nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

// Up to its limit the driver pins the worker's own memory, what is more it gives itself. The answer
// is the same.
TEST_F(XrtDeviceTest, WeightsArePinnedAsFarAsTheDriverLets) {
  const std::vector<std::int32_t> prompt = RandomTokens(ConformanceConfig(), 8, 1);
  std::vector<float> expected;
  for (const char* limit : {"1000000000", "100000", "0"}) {
    setenv("FAKE_AMDXDNA_PINNED", limit, 1);
    const auto device = Make();
    absl::Status status;
    const auto runner = Run(device.get(), WeightFormat::kInt8, &status);
    ASSERT_NE(runner, nullptr) << status;
    const auto logits = runner->Prefill(0, prompt, 8);
    ASSERT_TRUE(logits.ok()) << logits.status();
    if (expected.empty()) expected = *logits;
    EXPECT_EQ(*logits, expected);
    EXPECT_THAT(FactOf(*device, "memory of weights"),
                std::string(limit).size() > 6 ? HasSubstr("the worker's, pinned by the driver")
                                              : HasSubstr("the rest the driver's: NPU: pinning"));
  }
}

TEST_F(XrtDeviceTest, MemoryOfAForgottenProgramComesBack) {
  XrtDeviceOptions options = Options();
  // Enough for one program's weights and not for two.
  options.weights_budget = 700000;
  const auto device = Make(options);
  absl::Status status;
  for (int i = 0; i < 4; ++i) {
    ASSERT_NE(Run(device.get(), WeightFormat::kInt8, &status), nullptr) << status;
  }
}

TEST_F(XrtDeviceTest, KernelsThatAreNotThereAreSaid) {
  const auto device = Make({.kernels = "/nowhere", .threads = 1});
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->Probe().code(), absl::StatusCode::kNotFound);
}

TEST_F(XrtDeviceTest, ALostContextEndsTheStep) {
  for (const char* fault : {"exec 5 lost", "exec 5 timeout", "exec 5 error", "exec 5 vanish"}) {
    setenv("FAKE_AMDXDNA_FAULTS", fault, 1);
    const auto device = Make();
    absl::Status status;
    const auto runner = Run(device.get(), WeightFormat::kInt4, &status);
    ASSERT_NE(runner, nullptr) << status;
    const auto logits = runner->Prefill(0, RandomTokens(ConformanceConfig(), 8, 1), 8);
    EXPECT_EQ(logits.status().code(), absl::StatusCode::kUnavailable) << logits.status();
    // What happened once stays: no later answer comes from such a device.
    EXPECT_EQ(runner->Prefill(1, RandomTokens(ConformanceConfig(), 8, 1), 8).status().code(),
              absl::StatusCode::kUnavailable)
        << fault;
    EXPECT_EQ(device->Probe().code(), absl::StatusCode::kUnavailable) << fault;
  }
}

constexpr char kMemoryOfEdges[] = "memory of edges";

TEST_F(XrtDeviceTest, EdgesAreTheDriversMemoryOrTheHosts) {
  const auto device = Make();
  EXPECT_GT(device->memory().host_pointer.import_bytes, 0U);
  EXPECT_EQ(device->memory().dma_buf.import_bytes, 0U) << "an NPU takes no GPU's memory";
  EXPECT_GT(device->memory().dma_buf.export_bytes, 0U);
  EXPECT_THAT(FactOf(*device, kMemoryOfEdges), HasSubstr("dma-buf"));
  const ResidualLayout layout = MakeResidualLayout(2, 8, 64);
  UniqueFd fd;
  const auto residual = device->ExportResidual(HandleKind::kDmaBuf, layout, &fd);
  ASSERT_TRUE(residual.ok()) << residual.status();
  EXPECT_TRUE(IsDmaBuf(fd.get()));
  EXPECT_EQ((*residual)->host_view().size(), layout.total_bytes());
  EXPECT_EQ(device->ImportResidual(HandleKind::kDmaBuf, std::move(fd), layout).status().code(),
            absl::StatusCode::kUnimplemented);
  UniqueFd other;
  EXPECT_EQ(device->ExportResidual(HandleKind::kHostPointer, layout, &other).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(other.valid());
}

// What the stand-in's rule means for an edge, and that the device keeps it: Inputs- and
// OutputsAreInTheSharedPages_exported of the conformance suite.
TEST_F(XrtDeviceTest, AGpuSeesOfAnEdgeOnlyWhatWasFlushed) {
  const auto device = Make();
  const ResidualLayout layout = MakeResidualLayout(1, 8, 64);
  UniqueFd fd;
  const auto residual = device->ExportResidual(HandleKind::kDmaBuf, layout, &fd);
  ASSERT_TRUE(residual.ok()) << residual.status();
  const auto gpu = Mapping::Map(fd.get(), layout.total_bytes(), /*writable=*/true);
  ASSERT_TRUE(gpu.ok()) << gpu.status();
  auto* edge = dynamic_cast<CpuResidual*>(residual->get());
  ASSERT_NE(edge, nullptr);
  edge->host_view()[5] = std::byte{9};
  EXPECT_EQ(gpu->data()[5], std::byte{0});
  ASSERT_TRUE(edge->Flush(0, 64).ok());
  EXPECT_EQ(gpu->data()[5], std::byte{9});
  gpu->data()[6] = std::byte{7};
  EXPECT_EQ(edge->host_view()[6], std::byte{0});
  ASSERT_TRUE(edge->Fetch(0, 64).ok());
  EXPECT_EQ(edge->host_view()[6], std::byte{7});
}

TEST_F(XrtDeviceTest, ADriverThatExportsNothingLeavesHostMemoryAndSaysWhy) {
  setenv("FAKE_AMDXDNA_FAULTS", "export 1 refused", 1);
  const auto device = Make();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->memory().dma_buf.export_bytes, 0U);
  EXPECT_GT(device->memory().host_pointer.import_bytes, 0U);
  EXPECT_THAT(FactOf(*device, kMemoryOfEdges), HasSubstr("host memory only: NPU: exporting"));
  UniqueFd fd;
  EXPECT_FALSE(device->ExportResidual(HandleKind::kDmaBuf, MakeResidualLayout(2, 8, 64), &fd).ok());
  EXPECT_FALSE(fd.valid());
}

TEST_F(XrtDeviceTest, AnEdgeThatGetsNoMemorySaysSo) {
  const ResidualLayout layout = MakeResidualLayout(2, 8, 64);
  bool tried = false;
  // XRT has buffers of its own: which allocation is the second edge's is found by trying.
  for (int allocation = 1; allocation < 20 && !tried; ++allocation) {
    setenv("FAKE_AMDXDNA_FAULTS", absl::StrCat("create_bo ", allocation, " nomem").c_str(), 1);
    const auto device = CreateXrtDevice(Options());
    if (!device.ok()) continue;
    UniqueFd first, second;
    const auto there = (*device)->ExportResidual(HandleKind::kDmaBuf, layout, &first);
    if (!there.ok()) continue;
    const absl::Status status =
        (*device)->ExportResidual(HandleKind::kDmaBuf, layout, &second).status();
    if (status.ok()) continue;
    tried = true;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_FALSE(second.valid());
    EXPECT_TRUE((*device)->ExportResidual(HandleKind::kDmaBuf, layout, &second).ok());
  }
  EXPECT_TRUE(tried);
}

// A prompt on one device, its answer on the other: keys and values pass in their written form.
TEST_F(XrtDeviceTest, KeysAndValuesPassToTheCpuDeviceAndBack) {
  const auto npu = Make();
  const auto cpu = CreateCpuDevice({.threads = 2});
  ASSERT_TRUE(cpu.ok());
  Device* const ways[][2] = {{npu.get(), cpu->get()}, {cpu->get(), npu.get()}};
  for (const auto& [first, second] : ways) {
    absl::Status status;
    const auto prefill = Run(first, WeightFormat::kInt8, &status);
    const auto decode = Run(second, WeightFormat::kInt8, &status);
    const auto alone = Run(second, WeightFormat::kInt8, &status);
    ASSERT_TRUE(prefill != nullptr && decode != nullptr && alone != nullptr) << status;
    const std::vector<std::int32_t> prompt = RandomTokens(ConformanceConfig(), 40, 1);
    ASSERT_TRUE(prefill->Prefill(0, prompt, 24).ok());
    ASSERT_TRUE(alone->Prefill(0, prompt, 24).ok());
    ASSERT_EQ(prefill->HandOver(0, decode.get()), absl::OkStatus());
    const std::vector<std::int32_t> more = RandomTokens(ConformanceConfig(), 6, 2);
    const auto expected = alone->Prefill(0, more, 1);
    const auto found = decode->Prefill(0, more, 1);
    ASSERT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
    EXPECT_LT(Compare(*expected, *found).largest, 0.1);
    EXPECT_LT(Compare(*expected, *found).mean, 0.02);
  }
}

}  // namespace
}  // namespace tandem::npu
