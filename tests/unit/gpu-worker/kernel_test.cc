// Every kernel of the table against an obvious C++ twin, on the device that is there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gpu-worker/kernels/kernel_table.h"
#include "tests/unit/gpu-worker/kernel_twins.h"

namespace tandem {

void ExpectNear(std::span<const float> found, std::span<const float> expected, double tolerance,
                const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double largest = 0;
  for (const float value : expected) {
    largest = std::max(largest, std::fabs(static_cast<double>(value)));
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference =
        std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    // Written so that NaN fails.
    ASSERT_TRUE(difference <= tolerance * largest)
        << what << " at " << i << ": expected " << expected[i] << ", found " << found[i];
  }
}

namespace {

std::map<std::string, KernelTwin> AllTwins() {
  std::map<std::string, KernelTwin> twins = MatrixTwins();
  twins.merge(RowTwins());
  twins.merge(AttentionTwins());
  twins.merge(TileAttentionTwins());
  twins.merge(ProductTwins());
  twins.merge(StreamTwins());
  return twins;
}

class Kernel : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    auto runner = KernelRunner::Create();
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = std::move(*runner).release();
  }
  static void TearDownTestSuite() { delete runner_; }
  static KernelRunner* runner_;
};
KernelRunner* Kernel::runner_ = nullptr;

TEST_P(Kernel, MatchesItsTwin) {
  ASSERT_NE(runner_, nullptr);
  if (!runner_->device().physical().Has(kernels::Find(GetParam()).needs)) {
    GTEST_SKIP() << "the device lacks what this kernel needs";
  }
  const auto twins = AllTwins();
  const auto twin = twins.find(GetParam());
  ASSERT_NE(twin, twins.end()) << "no twin for kernel " << GetParam();
  twin->second(*runner_, GetParam());
  EXPECT_THAT(runner_->TakeValidationMessages(), testing::IsEmpty());
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const vulkan::ShaderCode& code : kernels::All()) names.emplace_back(code.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, Kernel, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(KernelTable, EveryTwinHasAKernel) {
  const std::vector<std::string> names = Names();
  for (const auto& [name, twin] : AllTwins()) EXPECT_THAT(names, testing::Contains(name));
}

}  // namespace
}  // namespace tandem
