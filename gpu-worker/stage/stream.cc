#include "gpu-worker/stage/stream.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kBuffers = 9;        // of stream.comp
constexpr std::uint32_t kChainBuffers = 12;  // of decode.comp with CHAINED
// What a lane has in registers, at most: groups of a row, and vectors of the norm.
constexpr std::uint32_t kMostLoads = 8;
constexpr std::uint32_t kMostVecs = 8;
constexpr auto kGroup = static_cast<std::uint32_t>(kGroupSize);

// The variants of stream.comp.
enum class Variant : std::uint8_t { kNorm, kGeglu, kPlain };

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
                                       Variant variant, bool chained) {
  const ChainTuning& chain = context.tuning.chain;
  const StreamTuning tuning =
      chained ? StreamTuning{chain.per_core, chain.threads, chain.blocks} : context.tuning.stream;
  const vulkan::PhysicalDevice& physical = context.device.physical();
  // Of attention, which has more than stream.comp.
  const std::uint32_t buffers = chained ? kChainBuffers : kBuffers;
  if (tuning.per_core == 0 || physical.limits.maxPerStageDescriptorStorageBuffers < buffers)
    return std::nullopt;
  const bool geglu = variant == Variant::kGeglu;
  const bool plain = variant == Variant::kPlain;
  StreamShape shape;
  shape.subgroup = context.subgroup();
  shape.threads = std::max(plain ? chain.end_threads : tuning.threads, shape.subgroup);
  shape.groups = whole.params.groups;
  // Rows of each matrix that a workgroup has, or, with geglu, groups of them: as few workgroups as
  // that takes.
  const std::uint32_t units = geglu ? whole.params.second_row / kGroup : whole.params.rows;
  const std::uint32_t most = tuning.per_core * std::max(physical.cores, 1u);
  const std::uint32_t units_each = Ceil(units, most);
  shape.workgroups = chained && chain.spread ? std::min(units, most) : Ceil(units, units_each);
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
  shape.vecs_each = plain ? 1 : Ceil(shape.groups * 8, shape.threads);
  // All columns with their scales, sums of rows, and squares.
  const std::uint64_t shared = std::uint64_t{shape.groups} * (2 * 16 + 8) +
                               std::uint64_t{shape.most_rows} * shape.parts * 4 +
                               std::uint64_t{subgroups} * 8;
  if (shape.loads > kMostLoads || shape.vecs_each > kMostVecs ||
      shared > physical.limits.maxComputeSharedMemorySize) {
    return std::nullopt;
  }
  return shape;
}

Op MakeOp(const DeviceContext& context, const Product::Whole& whole, const StreamNorm& norm,
          Variant variant, bool chained) {
  const StreamShape shape = *ChooseShape(context, whole, variant, chained);
  Op op;
  op.name = whole.name;
  kernels::ProductParams params = whole.params;
  params.part_stride = std::bit_cast<std::uint32_t>(norm.epsilon);
  std::vector<std::uint32_t> constants = {shape.threads,   shape.subgroup,  shape.groups,
                                          shape.parts,     shape.loads,     shape.most_rows,
                                          shape.vecs_each, norm.input.base, norm.output.base};
  if (chained) {
    const ChainTuning& chain = context.tuning.chain;
    const bool hold = variant == Variant::kPlain ? chain.end_hold : chain.hold;
    constants.insert(constants.end(), {chain.cumulative ? 1u : 0u, hold ? 1u : 0u});
  }
  constexpr std::string_view kEnds[] = {"", "_geglu", "_plain"};
  op.plan = [context, shape, params, constants, signals = chained ? shape.workgroups : 0,
             kernel = Cat("stream_", WeightFormatName(whole.format),
                          kEnds[static_cast<std::size_t>(variant)], chained ? "_chained" : ""),
             work = WorkEstimate{params.groups * 64.0 * params.rows / kPackedSpeed, whole.bytes}](
                std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
    if (bucket != 1) return DispatchPlan{};
    DispatchPlan plan;
    TANDEM_ASSIGN_OR_RETURN(plan.pipeline, context.pipelines.Get(kernel, constants));
    plan.SetPush(params);
    plan.groups = {shape.workgroups, 1, 1};
    plan.signals = signals;
    plan.work = work;
    return plan;
  };
  return op;
}

}  // namespace

bool Streams(const DeviceContext& context, const Product& product, StreamKind kind) {
  const std::optional<Product::Whole> whole = product.AsWhole();
  if (!whole.has_value()) return false;
  const bool groups =
      whole->params.second_row % kGroup == 0 && whole->params.rows == 2 * whole->params.second_row;
  return (groups || !kind.geglu) &&
         ChooseShape(context, *whole, kind.geglu ? Variant::kGeglu : Variant::kNorm, kind.chained)
             .has_value();
}

bool StreamsPlain(const DeviceContext& context, const Product& product) {
  const std::optional<Product::Whole> whole = product.AsWhole();
  return whole.has_value() &&
         ChooseShape(context, *whole, Variant::kPlain, /*chained=*/true).has_value();
}

Op StreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
            const StreamNorm& norm, vulkan::BufferSlice output, StreamKind kind) {
  const Product::Whole whole = *product.AsWhole();
  Op op = MakeOp(context, whole, norm, kind.geglu ? Variant::kGeglu : Variant::kNorm, kind.chained);
  op.bindings = {step,        whole.values,     norm.branch,       output,          whole.scales,
                 norm.weight, norm.input.slice, norm.output.slice, norm.next_weight};
  return op;
}

Op PlainStreamOp(const DeviceContext& context, const Product& product, vulkan::BufferSlice step,
                 vulkan::BufferSlice input, vulkan::BufferSlice output) {
  const Product::Whole whole = *product.AsWhole();
  Op op = MakeOp(context, whole, {}, Variant::kPlain, /*chained=*/true);
  op.bindings = {step, whole.values, input, output, whole.scales};
  return op;
}

}  // namespace tandem
