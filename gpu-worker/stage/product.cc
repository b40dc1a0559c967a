#include "gpu-worker/stage/product.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/matmul_op.h"
#include "gpu-worker/stage/product_dispatch.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kChunk = 128;  // columns that matrix kernels take at once
constexpr std::size_t kMaxMatrices = 3;
constexpr auto kGroup = static_cast<std::uint32_t>(kGroupSize);
// Of dot.comp with POST_NORM.
constexpr std::uint32_t kPostNormBuffers = 11;

const TilesTuning& TilesFor(std::uint32_t bucket, std::uint32_t most) {
  const TilesTuning* best = &kTilesKernels[0];
  for (const TilesTuning& kernel : kTilesKernels) {
    if (kernel.tokens() <= std::min(bucket, most)) best = &kernel;
  }
  return *best;
}

std::uint32_t Ceil(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>(CeilDiv(a, b));
}

// From the first byte of two slices of a buffer to the last one.
std::optional<vulkan::BufferSlice> Span(const vulkan::BufferSlice& a,
                                        const vulkan::BufferSlice& b) {
  if (a.buffer != b.buffer) return std::nullopt;
  const std::uint64_t begin = std::min(a.offset, b.offset);
  return vulkan::BufferSlice{a.buffer, begin,
                             std::max(a.offset + a.bytes, b.offset + b.bytes) - begin};
}

}  // namespace

std::string_view FormSuffix(ActivationForm form) {
  switch (form) {
    case ActivationForm::kFloat32:
      return "";
    case ActivationForm::kQ8:
      return "_q8";
    case ActivationForm::kF16:
      return "_f16";
  }
  TANDEM_CHECK(false);
}

std::string_view KvSuffix(KvType type) {
  switch (type) {
    case KvType::kFloat32:
      return "f32";
    case KvType::kFloat16:
      return "f16";
    case KvType::kInt8:
      return "i8";
  }
  TANDEM_CHECK(false);
}

std::uint64_t MaxPartRows(std::uint32_t max_bucket) {
  std::uint64_t rows = max_bucket;
  for (std::uint32_t bucket = 1; bucket <= max_bucket; bucket *= 2) {
    std::uint32_t parts = MatrixTuningFor(bucket).max_parts;
    for (const TilesTuning& kernel : kTilesKernels) parts = std::max(parts, kernel.max_parts);
    rows = std::max<std::uint64_t>(rows, std::uint64_t{bucket} * parts);
  }
  return rows;
}

absl::StatusOr<Product> Product::Create(const DeviceContext& context, std::string name,
                                        std::vector<const DeviceTensor*> matrices,
                                        const ProductOptions& options) {
  TANDEM_CHECK(!matrices.empty() && matrices.size() <= kMaxMatrices);
  Product product(context, std::move(name), std::move(matrices), options);
  const DeviceTensor& first = *product.matrices_.front();
  product.cols_ = static_cast<std::uint32_t>(first.shape.cols);
  bool same = true;
  for (const DeviceTensor* matrix : product.matrices_) {
    TANDEM_RETURN_IF_ERROR(KernelSuffix(*matrix, product.name_).status());
    TANDEM_CHECK(matrix->shape.cols == first.shape.cols);
    product.rows_ += static_cast<std::uint32_t>(matrix->shape.rows);
    same = same && matrix->format == first.format;
  }
  const bool packed = first.format == WeightFormat::kInt8 || first.format == WeightFormat::kInt4;
  const bool free = options.activations == ActivationType::kAuto && same;
  product.q8_ = free && packed && !options.no_q8 && context.device.physical().packed_dot;
  if (!free || product.cols_ % kChunk != 0) return product;
  if (packed && context.fragments) {
    product.matrices_kind_ = MatrixKind::kFragments;
  } else if (context.matrices()) {
    product.matrices_kind_ = MatrixKind::kTiles;
  }
  return product;
}

ActivationForm Product::form(std::uint32_t bucket) const {
  const std::uint32_t least = matrices_kind_ == MatrixKind::kTiles ? kMinTilesTokens : 2;
  if (matrices_kind_ != MatrixKind::kNone && bucket >= least) return ActivationForm::kF16;
  return q8_ ? ActivationForm::kQ8 : ActivationForm::kFloat32;
}

MatrixKernel Product::MatrixKernelOf(std::uint32_t bucket, std::uint32_t count) const {
  const std::string format(WeightFormatName(matrices_.front()->format));
  if (matrices_kind_ == MatrixKind::kFragments) {
    const MatrixTuning& kernel = MatrixTuningFor(bucket);
    return {Cat("matrix_", format, "_", kernel.tokens, "_", kernel.tiles, "x", kernel.subgroups),
            {count},
            kernel.tiles * kernel.subgroups * 16,
            kernel.tokens,
            kernel.fill,
            // Each that shares columns has four chunks or more.
            std::clamp(cols_ / kChunk / (4 * kernel.shares), 1u, kernel.max_parts)};
  }
  const TilesTuning& kernel = TilesFor(bucket, context_.tuning.tiles_tokens);
  return {kernel.Name(format), {count},     kernel.rows(),
          kernel.tokens(),     kernel.fill, kernel.max_parts};
}

std::uint32_t Product::pad(std::uint32_t bucket) const {
  if (form(bucket) != ActivationForm::kF16) return bucket;
  return static_cast<std::uint32_t>(RoundUp(bucket, MatrixKernelOf(bucket).tokens));
}

std::uint32_t Product::parts(std::uint32_t bucket) const {
  if (!options_.parts || form(bucket) != ActivationForm::kF16) return 1;
  const MatrixKernel kernel = MatrixKernelOf(bucket);
  const std::uint32_t groups = Ceil(rows_, kernel.rows) * (pad(bucket) / kernel.tokens);
  const std::uint32_t chunks = cols_ / kChunk;
  const std::uint32_t wanted = std::clamp(kernel.fill / groups, 1u, kernel.max_parts);
  // Whole pairs of chunks, as many for each part.
  const auto a_part = static_cast<std::uint32_t>(RoundUp(Ceil(chunks, wanted), 2));
  return Ceil(chunks, a_part);
}

float Product::input_scale(std::uint32_t bucket) const {
  return options_.small_f16 && form(bucket) == ActivationForm::kF16 ? kSmall : 1;
}

// As many neighbours as one dispatch takes and one binding holds.
std::vector<Product::Batch> Product::MakeBatches() const {
  const std::uint64_t most = context_.device.physical().limits.maxStorageBufferRange;
  std::vector<Batch> batches;
  std::uint32_t row = 0;
  for (const DeviceTensor* matrix : matrices_) {
    for (const WeightChunk& chunk : matrix->chunks) {
      const vulkan::BufferSlice& scales = chunk.scales.bytes != 0 ? chunk.scales : chunk.values;
      Batch* last = batches.empty() ? nullptr : &batches.back();
      const auto values_of_both = last == nullptr ? std::nullopt : Span(last->values, chunk.values);
      const auto scales_of_both = last == nullptr ? std::nullopt : Span(last->scales, scales);
      if (values_of_both && scales_of_both && last->chunks.size() < kMaxMatrices &&
          std::max(values_of_both->bytes, scales_of_both->bytes) <= most) {
        last->chunks.push_back(&chunk);
        last->values = *values_of_both;
        last->scales = *scales_of_both;
      } else {
        batches.push_back({{&chunk}, row, chunk.values, scales});
      }
      row += static_cast<std::uint32_t>(chunk.rows);
    }
  }
  return batches;
}

double Product::BytesOf(const Batch& batch) {
  double bytes = 0;
  for (const WeightChunk* chunk : batch.chunks)
    bytes += static_cast<double>(chunk->values.bytes + chunk->scales.bytes);
  return bytes;
}

kernels::ProductParams Product::ParamsOf(const Batch& batch) const {
  kernels::ProductParams params{};
  params.groups = cols_ / kGroupSize;
  params.output_stride = rows_;
  params.output_offset = batch.first_row;
  params.output_scale = 1;
  std::uint32_t* const values[] = {&params.values_a, &params.values_b, &params.values_c};
  std::uint32_t* const scales[] = {&params.scales_a, &params.scales_b, &params.scales_c};
  std::uint32_t* const ends[] = {&params.second_row, &params.third_row, &params.rows};
  for (std::size_t i = 0; i < kMaxMatrices; ++i) {
    if (i < batch.chunks.size()) {
      const WeightChunk& chunk = *batch.chunks[i];
      *values[i] = static_cast<std::uint32_t>((chunk.values.offset - batch.values.offset) / 16);
      if (chunk.scales.bytes != 0) {
        *scales[i] = static_cast<std::uint32_t>((chunk.scales.offset - batch.scales.offset) / 2);
      }
      params.rows += static_cast<std::uint32_t>(chunk.rows);
    }
    *ends[i] = params.rows;
  }
  return params;
}

ProductDispatch Product::DispatchOf(const Batch& batch, std::uint32_t count) const {
  return {context_,        std::string(WeightFormatName(matrices_.front()->format)),
          ParamsOf(batch), rows_,
          count,           BytesOf(batch),
          options_.chained};
}

bool Product::Chains(std::uint32_t min_bucket, std::uint32_t max_bucket) const {
  if (!OneBatch(matrices_.size())) return false;
  const ProductDispatch dispatch = DispatchOf(MakeBatches().front(), kernels::kRowsAreTokens);
  for (std::uint32_t bucket = min_bucket; bucket <= max_bucket; bucket *= 2) {
    const ActivationForm form = this->form(bucket);
    const bool matrices = form == ActivationForm::kF16 && matrices_kind_ == MatrixKind::kFragments;
    if (!matrices && !(form == ActivationForm::kQ8 && dispatch.DotChains())) return false;
  }
  return true;
}

Op Product::BatchOp(const Batch& batch, vulkan::BufferSlice step, vulkan::BufferSlice input,
                    vulkan::BufferSlice output, std::uint32_t count) const {
  Op op;
  op.name = name_;
  op.bindings = {step, batch.values, input, output, batch.scales};
  op.plan = [product = *this, plan = DispatchOf(batch, count)](
                std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
    const ActivationForm form = product.form(bucket);
    if (form == ActivationForm::kFloat32) return DispatchPlan{};
    absl::StatusOr<DispatchPlan> made =
        form == ActivationForm::kQ8
            ? plan.Dot(bucket)
            : plan.Matrix(product.MatrixKernelOf(bucket, plan.count), bucket, product.pad(bucket),
                          product.parts(bucket), 1 / product.input_scale(bucket));
    if (!made.ok()) return made.status();
    made->work = plan.Work(bucket);
    return made;
  };
  return op;
}

bool Product::OneBatch(std::size_t matrices) const {
  const std::vector<Batch> batches = MakeBatches();
  return (q8_ || matrices_kind_ != MatrixKind::kNone) && batches.size() == 1 &&
         batches.front().chunks.size() == matrices && matrices_.size() == matrices;
}

std::optional<Product::Whole> Product::AsWhole() const {
  if (form(1) != ActivationForm::kQ8 || !OneBatch(matrices_.size())) return std::nullopt;
  const std::vector<Batch> batches = MakeBatches();
  const Batch& batch = batches.front();
  return Whole{name_,        matrices_.front()->format, batch.values,
               batch.scales, ParamsOf(batch),           BytesOf(batch)};
}

bool Product::MakesGeglu(std::uint32_t bucket, const Product& reader) const {
  const ActivationForm form = this->form(bucket);
  if (form == ActivationForm::kQ8 && !context_.tuning.fuse_geglu) return false;
  // Groups of the result are whole in a workgroup.
  if (form == ActivationForm::kF16 && matrices_kind_ != MatrixKind::kFragments) return false;
  return form != ActivationForm::kFloat32 && reader.form(bucket) == form && OneBatch(2) &&
         (rows_ / 2) % kGroup == 0;
}

bool Product::MakesPostNorm(std::uint32_t bucket, const Product* next) const {
  return bucket == 1 && context_.tuning.fuse_post_norm && form(1) == ActivationForm::kQ8 &&
         OneBatch(1) && rows_ % 4 == 0 &&
         context_.device.physical().limits.maxPerStageDescriptorStorageBuffers >=
             kPostNormBuffers &&
         (next == nullptr || (next->form(1) == ActivationForm::kQ8 && rows_ % kGroup == 0));
}

absl::Status Product::AppendUnless(std::function<bool(std::uint32_t)> skip,
                                   vulkan::BufferSlice step, vulkan::BufferSlice input,
                                   vulkan::BufferSlice output, std::vector<Op>* ops) const {
  const std::size_t first = ops->size();
  TANDEM_RETURN_IF_ERROR(Append(step, input, output, kernels::kRowsAreTokens, ops));
  for (std::size_t i = first; i < ops->size(); ++i) {
    Op& op = (*ops)[i];
    op.plan = [skip,
               plan = std::move(op.plan)](std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
      if (skip(bucket)) return DispatchPlan{};
      return plan(bucket);
    };
  }
  return absl::OkStatus();
}

absl::Status Product::AppendGeglu(vulkan::BufferSlice step, vulkan::BufferSlice input,
                                  vulkan::BufferSlice gate_up, vulkan::BufferSlice activated,
                                  const Product& reader, std::vector<Op>* ops) const {
  const auto makes = [product = *this, reader](std::uint32_t bucket) {
    return product.MakesGeglu(bucket, reader);
  };
  if (OneBatch(2)) {
    const std::vector<Batch> batches = MakeBatches();
    const Batch& batch = batches.front();
    Op op;
    op.name = name_;
    op.bindings = {step, batch.values, input, activated, batch.scales};
    op.plan = [product = *this, reader, makes, plan = DispatchOf(batch, kernels::kRowsAreTokens)](
                  std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
      if (!makes(bucket)) return DispatchPlan{};
      if (product.form(bucket) == ActivationForm::kQ8) return plan.DotGeglu(bucket);
      return plan.MatrixGeglu(bucket, product.pad(bucket), reader.pad(bucket),
                              reader.input_scale(bucket));
    };
    ops->push_back(std::move(op));
  }
  if (options_.chained) return absl::OkStatus();
  return AppendUnless(makes, step, input, gate_up, ops);
}

absl::Status Product::AppendPostNorm(vulkan::BufferSlice step, vulkan::BufferSlice input,
                                     vulkan::BufferSlice branch, const PostNormOf& norm,
                                     std::vector<Op>* ops) const {
  const bool makes = MakesPostNorm(1, norm.next);
  if (makes) {
    const std::vector<Batch> batches = MakeBatches();
    const Batch& batch = batches.front();
    Op op;
    op.name = name_;
    const bool next = norm.next != nullptr;
    // Without a next norm the last but one two are not touched.
    op.bindings = {step,
                   batch.values,
                   input,
                   branch,
                   batch.scales,
                   norm.weight,
                   norm.input.slice,
                   norm.output.slice,
                   next ? norm.next_weight : norm.weight,
                   next ? norm.normed : branch,
                   norm.counters};
    op.plan = [norm, next, plan = DispatchOf(batch, kernels::kRowsAreTokens)](
                  std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
      if (bucket != 1) return DispatchPlan{};
      return plan.DotPostNorm(norm, next);
    };
    ops->push_back(std::move(op));
  }
  return AppendUnless([makes](std::uint32_t bucket) { return makes && bucket == 1; }, step, input,
                      branch, ops);
}

absl::Status Product::AppendFloat32(vulkan::BufferSlice step, vulkan::BufferSlice input,
                                    vulkan::BufferSlice output, std::uint32_t count,
                                    std::vector<Op>* ops) const {
  std::uint32_t row = 0;
  for (const DeviceTensor* matrix : matrices_) {
    const std::size_t first = ops->size();
    TANDEM_RETURN_IF_ERROR(AppendMatmul(context_, name_, *matrix, step, input, {output, rows_, row},
                                        count, matrix == matrices_.front(), ops));
    for (std::size_t i = first; i < ops->size(); ++i) {
      Op& op = (*ops)[i];
      op.plan = [product = *this,
                 plan = std::move(op.plan)](std::uint32_t bucket) -> absl::StatusOr<DispatchPlan> {
        if (product.form(bucket) != ActivationForm::kFloat32) return DispatchPlan{};
        return plan(bucket);
      };
    }
    row += static_cast<std::uint32_t>(matrix->shape.rows);
  }
  return absl::OkStatus();
}

absl::Status Product::Append(vulkan::BufferSlice step, vulkan::BufferSlice input,
                             vulkan::BufferSlice output, std::uint32_t count,
                             std::vector<Op>* ops) const {
  bool first = true;
  if (q8_ || matrices_kind_ != MatrixKind::kNone) {
    for (const Batch& batch : MakeBatches()) {
      ops->push_back(BatchOp(batch, step, input, output, count));
      ops->back().barrier = std::exchange(first, false);
    }
  }
  if (options_.chained) return absl::OkStatus();
  return AppendFloat32(step, input, output, count, ops);
}

}  // namespace tandem
