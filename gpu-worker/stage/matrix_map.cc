#include "gpu-worker/stage/matrix_map.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "gpu-worker/kernels/matrix/matrix_map.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint32_t kLanes = 32;
constexpr std::uint32_t kSlots = kernels::kFragmentSlots;
constexpr std::uint32_t kDepth = 16;  // columns of A, rows of B

// The map that matrix.comp is written for: with lane = 4r + t, a lane's slots 0 to 3 are row r of A
// (or token r of B), slots 4 to 7 row (or token) r + 8; each four are elements 2t, 2t + 1, 2t + 8
// and 2t + 9 of the other dimension.
std::vector<std::uint32_t> ExpectedMap(std::uint32_t tokens) {
  std::vector<std::uint32_t> map;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    for (const bool of_a : {true, false}) {
      for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
        const std::uint32_t outer = lane / 4 + slot / 4 * 8;
        const std::uint32_t depth = 2 * (lane % 4) + slot % 2 + slot % 4 / 2 * 8;
        const bool there = of_a || outer < tokens;
        const std::uint32_t element = of_a ? outer * kDepth + depth : depth * tokens + outer;
        map.push_back(there ? element : ~0u);
      }
    }
  }
  return map;
}

absl::StatusOr<bool> MapIsExpected(const DeviceContext& context, const char* kernel,
                                   std::uint32_t tokens) {
  const std::vector<std::uint32_t> expected = ExpectedMap(tokens);
  const std::uint64_t bytes = expected.size() * sizeof(std::uint32_t);
  TANDEM_ASSIGN_OR_RETURN(
      const vulkan::Buffer map,
      vulkan::Buffer::Create(context.device, bytes, vulkan::Placement::kReadback, "matrix map"));
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Pipeline* pipeline, context.pipelines.Get(kernel, {}));
  TANDEM_ASSIGN_OR_RETURN(auto descriptors, vulkan::DescriptorPool::Create(context.device, 1, 1));
  const vulkan::BufferSlice slice = map.slice();
  TANDEM_ASSIGN_OR_RETURN(const VkDescriptorSet set,
                          descriptors.MakeSet(pipeline->descriptor_layout(), {&slice, 1}));
  TANDEM_ASSIGN_OR_RETURN(const auto timeline, vulkan::Timeline::Create(context.device));
  TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(context.device));
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
  commands.Dispatch(*pipeline, set, {}, {1, 1, 1});
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  const VkCommandBuffer handle = commands.handle();
  TANDEM_RETURN_IF_ERROR(context.device.Submit({&handle, 1}, timeline.handle(), 1));
  TANDEM_RETURN_IF_ERROR(timeline.Wait(1, Deadline::After(absl::Seconds(10))));
  return std::memcmp(map.data(), expected.data(), bytes) == 0;
}

}  // namespace

absl::StatusOr<bool> FragmentsWork(const DeviceContext& context) {
  if (!context.device.physical().fragments) return false;
  TANDEM_ASSIGN_OR_RETURN(const bool narrow, MapIsExpected(context, "matrix_map_8", 8));
  TANDEM_ASSIGN_OR_RETURN(const bool wide, MapIsExpected(context, "matrix_map_16", 16));
  return narrow && wide;
}

}  // namespace tandem
