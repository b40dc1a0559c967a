#include "gpu-worker/stage/product_dispatch.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kMaxDotTokens = 8;  // of a workgroup
constexpr std::uint32_t kFour = 4;          // groups that dot_rows.comp takes at once
constexpr std::uint32_t kMaxGroupsX = 32768;
constexpr auto kGroup = static_cast<std::uint32_t>(kGroupSize);

std::uint32_t Ceil(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>(CeilDiv(a, b));
}

}  // namespace

const MatrixTuning& MatrixTuningFor(std::uint32_t bucket) {
  const MatrixTuning* best = &kMatrixKernels[0];
  for (const MatrixTuning& kernel : kMatrixKernels) {
    if (kernel.bucket <= bucket) best = &kernel;
  }
  return *best;
}

WorkEstimate ProductDispatch::Work(std::uint32_t bucket) const {
  return {params.groups * 64.0 * params.rows * bucket / kPackedSpeed, bytes};
}

std::uint32_t ProductDispatch::Lanes(const DotTuning& tuning) const {
  return std::min(tuning.lanes, context.subgroup());
}

bool ProductDispatch::DotInRows() const {
  return Lanes(context.tuning.dot) == 1 &&
         (params.groups | params.scales_a | params.scales_b | params.scales_c) % kFour == 0;
}

absl::StatusOr<DispatchPlan> ProductDispatch::Plan(std::string kernel,
                                                   std::vector<std::uint32_t> constants,
                                                   vulkan::Groups groups) const {
  DispatchPlan plan;
  plan.groups = groups;
  if (chained) {
    kernel += "_chained";
    plan.signals = groups.x * groups.y * groups.z;
    constants.push_back(context.tuning.chain.cumulative ? 1 : 0);
  }
  TANDEM_ASSIGN_OR_RETURN(plan.pipeline, context.pipelines.Get(kernel, constants));
  return plan;
}

absl::StatusOr<DispatchPlan> ProductDispatch::Dot(std::uint32_t bucket) const {
  const DotTuning& tuning = context.tuning.dot;
  const std::uint32_t lanes = Lanes(tuning);
  const std::uint32_t threads = std::max(tuning.threads, context.subgroup());
  const std::uint32_t tokens = std::min({bucket, kMaxDotTokens, tuning.tokens});
  const std::uint32_t groups = Ceil(params.rows, threads / lanes);
  const std::uint32_t across = std::min(groups, kMaxGroupsX);
  std::string kernel = Cat("dot_", format);
  std::vector<std::uint32_t> constants = {threads, lanes, tuning.loads, tokens, count};
  if (DotInRows()) {
    TANDEM_CHECK(!chained);
    kernel += "_rows";
    constants = {threads, tokens, count, context.device.physical().fast_packed_dot ? 1u : 0u};
  }
  TANDEM_ASSIGN_OR_RETURN(DispatchPlan plan, Plan(std::move(kernel), std::move(constants),
                                                  {across, Ceil(groups, across), bucket / tokens}));
  plan.SetPush(params);
  return plan;
}

absl::StatusOr<DispatchPlan> ProductDispatch::DotGeglu(std::uint32_t bucket) const {
  const DotTuning& tuning = context.tuning.dot_geglu;
  const std::uint32_t lanes = Lanes(tuning);
  const std::uint32_t tokens = std::min(bucket, kMaxDotTokens);
  TANDEM_ASSIGN_OR_RETURN(
      DispatchPlan plan,
      Plan(Cat("dot_", format, "_geglu"), {kGroup * lanes, lanes, tuning.loads, tokens, count},
           {params.second_row / kGroup, 1, bucket / tokens}));
  plan.SetPush(params);
  plan.work = Work(bucket);
  return plan;
}

absl::StatusOr<DispatchPlan> ProductDispatch::DotPostNorm(const Product::PostNormOf& norm,
                                                          bool next) const {
  const DotTuning& tuning = context.tuning.dot_post_norm;
  const std::uint32_t lanes = Lanes(tuning);
  const std::uint32_t threads = std::max(tuning.threads, context.subgroup());
  DispatchPlan plan;
  TANDEM_ASSIGN_OR_RETURN(
      plan.pipeline,
      context.pipelines.Get(Cat("dot_", format, "_post_norm"),
                            {threads, lanes, tuning.loads, 1, count, norm.input.base,
                             norm.output.base, next ? 1u : 0u, Ceil(total_rows / 4, threads)}));
  kernels::ProductParams with_epsilon = params;
  with_epsilon.part_stride = std::bit_cast<std::uint32_t>(norm.epsilon);
  plan.SetPush(with_epsilon);
  plan.groups = {Ceil(params.rows, threads / lanes), 1, 1};
  plan.work = Work(1);
  return plan;
}

absl::StatusOr<DispatchPlan> ProductDispatch::MatrixGeglu(std::uint32_t bucket, std::uint32_t pad,
                                                          std::uint32_t output_pad,
                                                          float output_scale) const {
  const MatrixTuning& kernel = MatrixTuningFor(bucket);
  // pairs.comp reads two scales as one word: planes begin at kPlaneAlignment.
  TANDEM_CHECK((params.groups | params.scales_a | params.scales_b) % 2 == 0);
  TANDEM_ASSIGN_OR_RETURN(
      DispatchPlan plan,
      Plan(Cat("matrix_", format, "_geglu_", kernel.tokens), {count},
           {pad / kernel.tokens, Ceil(params.second_row, 16 * kernel.GegluSubgroups(format)), 1}));
  kernels::ProductParams of_bucket = params;
  of_bucket.pad = pad;
  of_bucket.chunks_a_part = params.groups / 4;
  of_bucket.part_stride = output_pad;
  of_bucket.output_scale = output_scale;
  plan.SetPush(of_bucket);
  plan.work = Work(bucket);
  return plan;
}

absl::StatusOr<DispatchPlan> ProductDispatch::Matrix(const MatrixKernel& kernel,
                                                     std::uint32_t bucket, std::uint32_t pad,
                                                     std::uint32_t parts,
                                                     float output_scale) const {
  TANDEM_ASSIGN_OR_RETURN(DispatchPlan plan,
                          Plan(kernel.name, kernel.constants,
                               {pad / kernel.tokens, Ceil(params.rows, kernel.rows), parts}));
  kernels::ProductParams of_bucket = params;
  of_bucket.pad = pad;
  of_bucket.chunks_a_part =
      static_cast<std::uint32_t>(RoundUp(Ceil(params.groups / 4, parts), parts > 1 ? 2 : 1));
  of_bucket.part_stride = bucket * total_rows;
  of_bucket.output_scale = output_scale;
  plan.SetPush(of_bucket);
  return plan;
}

}  // namespace tandem
