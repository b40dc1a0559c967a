#include "gpu-worker/stage/stream.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kBuffers = 9;  // of stream.comp
// What a lane has in registers, at most: groups of a row, and vectors of the norm.
constexpr std::uint32_t kMostLoads = 8;
constexpr std::uint32_t kMostVecs = 8;
constexpr auto kGroup = static_cast<std::uint32_t>(kGroupSize);

// Specialisation constants, and how many workgroups run.
struct StreamShape {
  std::uint32_t threads = 0;
  std::uint32_t subgroup = 0;
  std::uint32_t groups = 0;
  std::uint32_t parts = 1;
  std::uint32_t loads = 0;
  std::uint32_t most_rows = 0;
  std::uint32_t vecs_each = 0;
  std::uint32_t workgroups = 0;
};

std::uint32_t Ceil(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>(CeilDiv(a, b));
}

std::optional<StreamShape> ChooseShape(const DeviceContext& context, const Product::Whole& whole,
                                       bool geglu) {
  const StreamTuning& tuning = context.tuning.stream;
  const vulkan::PhysicalDevice& physical = context.device.physical();
  if (tuning.per_core == 0 || physical.limits.maxPerStageDescriptorStorageBuffers < kBuffers)
    return std::nullopt;
  StreamShape shape;
  shape.subgroup = context.subgroup();
  shape.threads = std::max(tuning.threads, shape.subgroup);
  shape.groups = whole.params.groups;
  // Rows of each matrix that a workgroup has, or, with geglu, groups of them: as few workgroups as
  // that takes.
  const std::uint32_t units = geglu ? whole.params.second_row / kGroup : whole.params.rows;
  const std::uint32_t most = tuning.per_core * std::max(physical.cores, 1u);
  const std::uint32_t units_each = Ceil(units, most);
  shape.workgroups = Ceil(units, units_each);
  // A lane has so many groups that their blocks fit into registers twice.
  const std::uint32_t blocks = whole.format == WeightFormat::kInt8 ? 2 : 1;
  const auto loads = [&] { return Ceil(shape.groups / shape.parts, shape.subgroup); };
  const std::uint32_t subgroups = shape.threads / shape.subgroup;
  while (loads() * blocks > tuning.blocks && shape.groups % (2 * shape.parts) == 0 &&
         subgroups % (2 * shape.parts) == 0) {
    shape.parts *= 2;
  }
  shape.loads = loads();
  shape.most_rows = units_each * (geglu ? 2 * kGroup : 1);
  shape.vecs_each = Ceil(shape.groups * 8, shape.threads);
  const std::uint64_t shared = std::uint64_t{shape.groups} * (2 * 16 + 8) +
                               std::uint64_t{shape.most_rows} * shape.parts * 4 + subgroups * 8;
  if (shape.loads > kMostLoads || shape.vecs_each > kMostVecs ||
      shared > physical.limits.maxComputeSharedMemorySize) {
    return std::nullopt;
  }
  return shape;
}

}  // namespace

bool Streams(const DeviceContext& context, const Product& product, bool geglu) {
  const std::optional<Product::Whole> whole = product.AsWhole();
  if (!whole.has_value()) return false;
  const bool groups =
      whole->params.second_row % kGroup == 0 && whole->params.rows == 2 * whole->params.second_row;
  return (groups || !geglu) && ChooseShape(context, *whole, geglu).has_value();
}

Op StreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
            const StreamNorm& norm, vulkan::BufferSlice output, bool geglu) {
  const Product::Whole whole = *product.AsWhole();
  const StreamShape shape = *ChooseShape(context, whole, geglu);
  Op op;
  op.name = whole.name;
  op.bindings = {step,        whole.values,     norm.branch,       output,          whole.scales,
                 norm.weight, norm.input.slice, norm.output.slice, norm.next_weight};
  kernels::ProductParams params = whole.params;
  params.part_stride = std::bit_cast<std::uint32_t>(norm.epsilon);
  const std::vector<std::uint32_t> constants = {shape.threads,   shape.subgroup,  shape.groups,
                                                shape.parts,     shape.loads,     shape.most_rows,
                                                shape.vecs_each, norm.input.base, norm.output.base};
  op.plan = [context, shape, params, constants,
             kernel = Cat("stream_", WeightFormatName(whole.format), geglu ? "_geglu" : ""),
             work = WorkEstimate{params.groups * 64.0 * params.rows / kPackedSpeed, whole.bytes}](
                std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
    if (bucket != 1) return DispatchPlan{};
    DispatchPlan plan;
    TANDEM_ASSIGN_OR_RETURN(plan.pipeline, context.pipelines.Get(kernel, constants));
    plan.SetPush(params);
    plan.groups = {shape.workgroups, 1, 1};
    plan.work = work;
    return plan;
  };
  return op;
}

}  // namespace tandem
