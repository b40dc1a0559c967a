#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "gpu-worker/vulkan/buffer.h"
#include "lib/device/stage.h"

namespace tandem {

// How activations stand between the kernel that makes them and a product:
// kernels/common/activations.glsl.
enum class ActivationForm : std::uint8_t { kFloat32, kQ8, kF16 };
// "", "_q8" or "_f16": the end of the name of a kernel that makes them.
std::string_view FormSuffix(ActivationForm form);
// How kernels' names call the type of keys and values.
std::string_view KvSuffix(KvType type);

// Rows that a buffer of activations has room for at least, counted in floats, so that every form
// fits: matrix kernels work on 8 tokens of two bytes or more.
inline constexpr std::uint32_t kMinActivationRows = 8;
// A buffer of a product's parts has room for as many rows in all.
std::uint64_t MaxPartRows(std::uint32_t max_bucket);

// Where rows of the residual stream lie: a buffer and which base of the step it starts at
// (kBaseZero, kBaseInput, kBaseOutput).
struct ResidualRef {
  vulkan::BufferSlice slice;
  std::uint32_t base = 0;
};

// Which kernels multiply with cooperative matrices: none, matrix.comp (KernelNeeds::kFragments), or
// tiles.comp (KernelNeeds::kMatrix).
enum class MatrixKind : std::uint8_t { kNone, kFragments, kTiles };

// One of them with its specialisation constants.
struct MatrixKernel {
  std::string name;
  std::vector<std::uint32_t> constants;
  // Of a workgroup.
  std::uint32_t rows = 0;
  std::uint32_t tokens = 0;
  // Workgroups that fill the device, and in how many parts columns are shared out for that.
  std::uint32_t fill = 0;
  std::uint32_t max_parts = 0;
};

// What a product is asked for beyond its matrices.
struct ProductOptions {
  ActivationType activations = ActivationType::kFloat32;
  // The reader of the output sums its parts; else there is one.
  bool parts = false;
  // The maker of the activations cannot make kQ8.
  bool no_q8 = false;
  // Activations in kF16 come times kSmall, so that they fit, and results are made right again.
  bool small_f16 = false;
  // Kernels for a chain (chain.h), which ops do not join by themselves. Chains() is true of it.
  bool chained = false;
};
inline constexpr float kSmall = 0.0625f;

struct ProductDispatch;

// Some matrices of equal width times the same activations, in the kernels that suit the device, the
// weights and the bucket: with float32 activations one dispatch a matrix (matmul_op.h), else one
// for all where they lie together. A row of the output holds the results of all matrices, one
// behind the other.
class Product {
 public:
  // One to three matrices, which outlive it. UNIMPLEMENTED names what no kernel reads.
  static absl::StatusOr<Product> Create(const DeviceContext& context, std::string name,
                                        std::vector<const DeviceTensor*> matrices,
                                        const ProductOptions& options);

  // Of a bucket of rows (a power of two): the form in which activations are wanted, and the rows to
  // which kF16 pads them.
  ActivationForm form(std::uint32_t bucket) const;
  std::uint32_t pad(std::uint32_t bucket) const;
  // In how many parts results come, each bucket * rows() floats behind the one before.
  std::uint32_t parts(std::uint32_t bucket) const;
  // By which kF16 activations are multiplied before they come.
  float input_scale(std::uint32_t bucket) const;
  std::uint32_t rows() const { return rows_; }
  // Of the first matrix.
  WeightFormat format() const { return matrices_.front()->format; }

  // All matrices as one dispatch takes them, for one token; nothing where they do not lie together
  // or activations are not kQ8.
  struct Whole {
    std::string name;
    WeightFormat format = WeightFormat::kInt4;
    vulkan::BufferSlice values;
    vulkan::BufferSlice scales;
    kernels::ProductParams params;
    double bytes = 0;
  };
  std::optional<Whole> AsWhole() const;

  // Whether there are such kernels for all buckets between the two, one dispatch each.
  bool Chains(std::uint32_t min_bucket, std::uint32_t max_bucket) const;

  // Whether gate and up come out of this product's dispatch as activations of `reader`.
  bool MakesGeglu(std::uint32_t bucket, const Product& reader) const;
  // Whether the dispatch ends the half layer too (PostNormOf).
  bool MakesPostNorm(std::uint32_t bucket, const Product* next) const;

  // `count` is kRowsAreTokens or kRowsAreLogits. The first op waits for what came before.
  absl::Status Append(vulkan::BufferSlice step, vulkan::BufferSlice input,
                      vulkan::BufferSlice output, std::uint32_t count, std::vector<Op>* ops) const;
  // For buckets of which MakesGeglu is true one op that writes `activated`, for the others what
  // Append does.
  absl::Status AppendGeglu(vulkan::BufferSlice step, vulkan::BufferSlice input,
                           vulkan::BufferSlice gate_up, vulkan::BufferSlice activated,
                           const Product& reader, std::vector<Op>* ops) const;

  // What follows the product of a half layer; see RowOps::PostNorm.
  struct PostNormOf {
    vulkan::BufferSlice weight;
    float epsilon = 0;
    ResidualRef input;
    ResidualRef output;
    vulkan::BufferSlice counters;
    // Null: no norm follows.
    const Product* next = nullptr;
    vulkan::BufferSlice next_weight;
    vulkan::BufferSlice normed;
  };
  // For buckets of which MakesPostNorm is true one op that does all of it, for the others what
  // Append does, into `branch`.
  absl::Status AppendPostNorm(vulkan::BufferSlice step, vulkan::BufferSlice input,
                              vulkan::BufferSlice branch, const PostNormOf& norm,
                              std::vector<Op>* ops) const;

 private:
  // Chunks that one dispatch takes.
  struct Batch {
    std::vector<const WeightChunk*> chunks;
    std::uint32_t first_row = 0;  // in a row of the output
    // Those that hold them all; of bf16, which has no scales, the values twice.
    vulkan::BufferSlice values;
    vulkan::BufferSlice scales;
  };

  Product(const DeviceContext& context, std::string name, std::vector<const DeviceTensor*> matrices,
          const ProductOptions& options)
      : context_(context),
        name_(std::move(name)),
        matrices_(std::move(matrices)),
        options_(options) {}
  MatrixKernel MatrixKernelOf(std::uint32_t bucket, std::uint32_t count = 0) const;
  std::vector<Batch> MakeBatches() const;
  // The one dispatch that has all rows of so many matrices, where there is such a one.
  bool OneBatch(std::size_t matrices) const;
  static double BytesOf(const Batch& batch);
  kernels::ProductParams ParamsOf(const Batch& batch) const;
  ProductDispatch DispatchOf(const Batch& batch, std::uint32_t count) const;
  // Appends what Append does, for buckets that `skip` is not true of.
  absl::Status AppendUnless(std::function<bool(std::uint32_t)> skip, vulkan::BufferSlice step,
                            vulkan::BufferSlice input, vulkan::BufferSlice output,
                            std::vector<Op>* ops) const;
  Op BatchOp(const Batch& batch, vulkan::BufferSlice step, vulkan::BufferSlice input,
             vulkan::BufferSlice output, std::uint32_t count) const;
  absl::Status AppendFloat32(vulkan::BufferSlice step, vulkan::BufferSlice input,
                             vulkan::BufferSlice output, std::uint32_t count,
                             std::vector<Op>* ops) const;

  DeviceContext context_;
  std::string name_;
  std::vector<const DeviceTensor*> matrices_;
  ProductOptions options_;
  std::uint32_t rows_ = 0;
  std::uint32_t cols_ = 0;
  bool q8_ = false;
  MatrixKind matrices_kind_ = MatrixKind::kNone;
};

}  // namespace tandem
