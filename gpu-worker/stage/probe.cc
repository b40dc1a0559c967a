#include "gpu-worker/stage/probe.h"

#include <span>

#include "gpu-worker/kernels/probe/probe_params.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Of probe.comp.
constexpr std::uint32_t kNumbers = 64;
constexpr kernels::ProbeParams kParams = {12345};
constexpr absl::Duration kProbePatience = absl::Seconds(10);

}  // namespace

absl::StatusOr<std::unique_ptr<Probe>> Probe::Create(const DeviceContext& context) {
  auto probe = std::unique_ptr<Probe>(new Probe(context));
  TANDEM_RETURN_IF_ERROR(probe->Record());
  return probe;
}

absl::Status Probe::Record() {
  const vulkan::LogicalDevice& device = context_.device;
  TANDEM_ASSIGN_OR_RETURN(numbers_,
                          vulkan::Buffer::Create(device, kNumbers * sizeof(std::uint32_t),
                                                 vulkan::Placement::kReadback, "probe numbers"));
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Pipeline* pipeline, context_.pipelines.Get("probe", {}));
  TANDEM_ASSIGN_OR_RETURN(descriptors_, vulkan::DescriptorPool::Create(device, 1, 1));
  const vulkan::BufferSlice slice = numbers_.slice();
  TANDEM_ASSIGN_OR_RETURN(const VkDescriptorSet set,
                          descriptors_.MakeSet(pipeline->descriptor_layout(), {&slice, 1}));
  TANDEM_ASSIGN_OR_RETURN(timeline_, vulkan::Timeline::Create(device));
  TANDEM_ASSIGN_OR_RETURN(pool_, vulkan::CommandPool::Create(device));
  TANDEM_ASSIGN_OR_RETURN(vulkan::CommandBuffer commands, pool_.Begin());
  commands.Dispatch(*pipeline, set, std::as_bytes(std::span(&kParams, 1)), {1, 1, 1});
  commands_ = commands.handle();
  return commands.Finish();
}

Probe::~Probe() { timeline_.Wait(runs_, Deadline::After(kProbePatience)).IgnoreError(); }

absl::Status Probe::Run() {
  const std::lock_guard lock(mutex_);
  auto* const numbers = reinterpret_cast<std::uint32_t*>(numbers_.data());
  // One that timed out may still write.
  TANDEM_RETURN_IF_ERROR(Annotate(timeline_.Wait(runs_, Deadline::After(kProbePatience)), "probe"));
  std::uint32_t sum = 0;
  for (std::uint32_t i = 0; i < kNumbers; ++i) {
    numbers[i] = i * i + static_cast<std::uint32_t>(runs_);
    sum += numbers[i];
  }
  TANDEM_RETURN_IF_ERROR(
      Annotate(context_.device.Submit({&commands_, 1}, timeline_.handle(), runs_ + 1), "probe"));
  ++runs_;
  TANDEM_RETURN_IF_ERROR(Annotate(timeline_.Wait(runs_, Deadline::After(kProbePatience)), "probe"));
  for (std::uint32_t i = 0; i < kNumbers; ++i) {
    const std::uint32_t expected = sum * (i + 1) + kParams.seed;
    if (numbers[i] != expected) {
      return absl::DataLossError(Cat("probe of Vulkan device \"", context_.device.physical().name,
                                     "\": expected ", expected, ", found ", numbers[i], " at ", i));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem
