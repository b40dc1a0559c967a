#include "lib/device/conformance/conformance.h"

#include <utility>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

// One device for all tests of a target, made by the first.
struct SharedDevice {
  ConformanceTarget target;
  absl::StatusOr<std::unique_ptr<Device>> device = absl::UnknownError("not made yet");
  bool made = false;

  Device* Get() {
    if (!std::exchange(made, true)) device = target.make_device();
    return device.ok() ? device->get() : nullptr;
  }
};

class ConformanceTest : public testing::Test {
 public:
  ConformanceTest(std::shared_ptr<SharedDevice> shared, ConformanceCase test_case)
      : shared_(std::move(shared)), case_(std::move(test_case)) {}

  void TestBody() override {
    Device* device = shared_->Get();
    ASSERT_NE(device, nullptr) << "no device: " << shared_->device.status();
    case_.run(shared_->target, device);
  }

 private:
  std::shared_ptr<SharedDevice> shared_;
  ConformanceCase case_;
};

// Drivers may be unloaded when static objects go: the device goes before.
class ReleaseDevice final : public testing::Environment {
 public:
  explicit ReleaseDevice(std::shared_ptr<SharedDevice> shared) : shared_(std::move(shared)) {}
  void TearDown() override { shared_->device = absl::CancelledError("all tests have run"); }

 private:
  const std::shared_ptr<SharedDevice> shared_;
};

}  // namespace

void RegisterConformance(const ConformanceTarget& target) {
  auto shared = std::make_shared<SharedDevice>();
  shared->target = target;
  testing::AddGlobalTestEnvironment(new ReleaseDevice(shared));
  std::vector<ConformanceCase> cases;
  for (auto&& group : {ReferenceCases(target), BatchCases(target), CutCases(target), ContextCases(),
                       KvCases(), ResidualCases(target), ContractCases()}) {
    cases.insert(cases.end(), group.begin(), group.end());
  }
  const std::string suite = target.name + "Conformance";
  for (const ConformanceCase& test_case : cases) {
    testing::RegisterTest(suite.c_str(), test_case.name.c_str(), nullptr, nullptr, __FILE__,
                          __LINE__, [shared, test_case]() -> ConformanceTest* {
                            return new ConformanceTest(shared, test_case);
                          });
  }
}

}  // namespace tandem
