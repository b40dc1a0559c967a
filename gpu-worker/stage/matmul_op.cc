#include "gpu-worker/stage/matmul_op.h"

#include <algorithm>
#include <string_view>

#include "gpu-worker/kernels/matvec/matmul_params.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/weights/format.h"

namespace tandem {
namespace {

constexpr std::uint32_t kTileRows = 16;  // of matmat.comp, for each row that an invocation takes
constexpr std::uint32_t kTileTokens = 32;
constexpr std::uint32_t kMaxRowsEach = 4;
constexpr std::uint32_t kMaxGroupsX = 32768;

double BytesPerWeight(WeightFormat format) {
  switch (format) {
    case WeightFormat::kBf16:
      return 2;
    case WeightFormat::kInt8:
      return 1.0625;
    case WeightFormat::kInt4:
      return 0.5625;
    case WeightFormat::kF32:
      return 4;
  }
  TANDEM_CHECK(false);
}

// BLOCK_VECS of weights.glsl.
std::uint32_t BlockVecs(WeightFormat format) {
  return format == WeightFormat::kBf16 ? 2 : (format == WeightFormat::kInt8 ? 4 : 8);
}

struct Matmul {
  const DeviceContext context;
  std::string suffix;
  kernels::MatmulParams params;
  std::uint32_t count;
  double bytes_per_weight;
  std::uint32_t block_vecs;  // groups of four weights in 16 bytes

  absl::StatusOr<DispatchPlan> Plan(std::uint32_t tokens) const {
    DispatchPlan plan;
    plan.SetPush(params);
    const double weights = static_cast<double>(params.rows) * params.cols;
    plan.work = {2.0 * weights * tokens, weights * bytes_per_weight};
    return tokens <= kMaxMatvecTokens ? PlanMatvec(tokens, plan) : PlanMatmat(tokens, plan);
  }

  absl::StatusOr<DispatchPlan> PlanMatvec(std::uint32_t tokens, DispatchPlan plan) const {
    const MatvecTuning& tuning = block_vecs == BlockVecs(WeightFormat::kBf16)
                                     ? context.tuning.matvec_bf16
                                     : context.tuning.matvec_packed;
    const MatvecShape shape =
        ChooseMatvecShape(tuning, params.rows, params.cols / (4 * block_vecs), block_vecs, tokens);
    TANDEM_ASSIGN_OR_RETURN(
        plan.pipeline,
        context.pipelines.Get(Cat("matvec_", suffix), {shape.group, shape.lanes, shape.rows,
                                                       shape.tokens, count, shape.tile_blocks}));
    const std::uint32_t rows_per_group = shape.group / shape.lanes * shape.rows;
    const auto groups = static_cast<std::uint32_t>(CeilDiv(params.rows, rows_per_group));
    plan.groups.x = std::min(groups, kMaxGroupsX);
    plan.groups.y = static_cast<std::uint32_t>(CeilDiv(groups, plan.groups.x));
    return plan;
  }

  absl::StatusOr<DispatchPlan> PlanMatmat(std::uint32_t tokens, DispatchPlan plan) const {
    plan.groups.y = static_cast<std::uint32_t>(CeilDiv(tokens, kTileTokens));
    std::uint32_t rows_each = kMaxRowsEach;
    const auto groups = [&] {
      return static_cast<std::uint32_t>(CeilDiv(params.rows, kTileRows * rows_each));
    };
    while (rows_each > 1 && groups() * plan.groups.y < context.tuning.matmat_fill) rows_each /= 2;
    plan.groups.x = groups();
    TANDEM_ASSIGN_OR_RETURN(plan.pipeline,
                            context.pipelines.Get(Cat("matmat_", suffix), {count, rows_each}));
    return plan;
  }
};

}  // namespace

absl::StatusOr<std::string> KernelSuffix(const DeviceTensor& tensor, const std::string& name) {
  if (tensor.format == WeightFormat::kF32) {
    return absl::UnimplementedError(Cat(name, ": expected bf16, int8 or int4 weights, found f32"));
  }
  const std::int64_t multiple = tensor.format == WeightFormat::kBf16 ? 8 : kGroupSize;
  if (tensor.shape.cols % multiple != 0) {
    return absl::UnimplementedError(
        Cat(name, ": expected a multiple of ", multiple, " columns, found ", tensor.shape.cols));
  }
  return std::string(WeightFormatName(tensor.format));
}

absl::Status AppendMatmul(const DeviceContext& context, const std::string& name,
                          const DeviceTensor& matrix, vulkan::BufferSlice step,
                          vulkan::BufferSlice input, const MatmulTarget& target,
                          std::uint32_t count, bool barrier, std::vector<Op>* ops) {
  TANDEM_ASSIGN_OR_RETURN(const std::string suffix, KernelSuffix(matrix, name));
  for (const WeightChunk& chunk : matrix.chunks) {
    Op op;
    op.name = name;
    op.barrier = barrier && &chunk == &matrix.chunks.front();
    op.bindings = {step, chunk.values, input, target.output};
    if (chunk.scales.buffer != VK_NULL_HANDLE) op.bindings.push_back(chunk.scales);
    const kernels::MatmulParams params = {
        static_cast<std::uint32_t>(chunk.rows), static_cast<std::uint32_t>(matrix.shape.cols),
        target.stride, target.offset + static_cast<std::uint32_t>(chunk.first_row)};
    op.plan = [matmul = Matmul{context, suffix, params, count, BytesPerWeight(matrix.format),
                               BlockVecs(matrix.format)}](std::uint32_t tokens) {
      return matmul.Plan(tokens);
    };
    ops->push_back(std::move(op));
  }
  return absl::OkStatus();
}

}  // namespace tandem
