#include "gpu-worker/stage/decode_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "gpu-worker/kernels/decode/decode_params.h"
#include "gpu-worker/stage/chain.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kBuffers = 10;  // of decode.comp
constexpr std::uint32_t kMostSharedHeads = 4;
constexpr std::uint32_t kMostSplits = 8;

std::uint32_t Unsigned(std::int32_t value) { return static_cast<std::uint32_t>(value); }

}  // namespace

DecodeShape ChooseDecodeShape(const DeviceContext& context, const ModelConfig& config,
                              std::uint32_t rows) {
  const DecodeTuning& tuning = context.tuning.decode;
  DecodeShape shape;
  const std::uint32_t subgroup = context.subgroup();
  shape.threads = std::max(tuning.threads, subgroup);
  shape.shared_heads = 1;
  const std::uint32_t of_key_head = Unsigned(config.num_heads / config.num_kv_heads);
  while (2 * shape.shared_heads <= kMostSharedHeads && of_key_head % (2 * shape.shared_heads) == 0)
    shape.shared_heads *= 2;
  shape.lanes = std::bit_floor(std::min(Unsigned(config.head_dim) / 8, subgroup));
  shape.unroll = tuning.unroll;
  const std::uint32_t groups = rows * shape.Groups(config);
  shape.splits = std::bit_floor(std::clamp(tuning.groups / groups, 1u, kMostSplits));
  const vulkan::PhysicalDevice& physical = context.device.physical();
  if (tuning.core_threads == 0 || rows < kManyDecodeTokens || physical.cores == 0) return shape;
  const auto each = static_cast<std::uint32_t>(CeilDiv(groups * shape.splits, physical.cores));
  const std::uint32_t most =
      std::min(2 * tuning.threads, std::bit_floor(physical.limits.maxComputeWorkGroupInvocations));
  const std::uint32_t wanted =
      std::clamp(std::bit_floor(tuning.core_threads / each), tuning.threads / 2, most);
  // As many keys in flight, in more invocations.
  if (wanted > shape.threads) shape.unroll = std::max(shape.unroll / 2, 1u);
  shape.threads = std::max(wanted, subgroup);
  return shape;
}

bool DecodesApart(const DeviceContext& context, const ModelConfig& config) {
  const vulkan::PhysicalDevice& physical = context.device.physical();
  return physical.packed_dot && config.head_dim % 8 == 0 &&
         physical.limits.maxPerStageDescriptorStorageBuffers >= kBuffers;
}

DecodeRoom RoomForDecode(const DeviceContext& context, const ModelConfig& config,
                         std::uint32_t rows) {
  DecodeRoom room;
  if (!DecodesApart(context, config)) return room;
  for (std::uint32_t bucket = 1; bucket <= rows; bucket *= 2) {
    const DecodeShape shape = ChooseDecodeShape(context, config, bucket);
    const std::uint64_t heads = std::uint64_t{bucket} * Unsigned(config.num_heads);
    // A vector behind each sum has the split's largest score and total.
    if (shape.splits > 1) {
      room.split_floats =
          std::max(room.split_floats, heads * shape.splits * (Unsigned(config.head_dim) + 4));
    }
    room.counters = std::max<std::uint64_t>(
        room.counters, kernels::kFirstDecodeCounter + std::uint64_t{bucket} * shape.Groups(config));
  }
  // Seven dispatches a layer, or five of one token.
  if (context.chain != nullptr) room.chain_words = ChainWords(7ull * Unsigned(config.num_layers));
  return room;
}

Op DecodeOp(const DeviceContext& context, const ModelConfig& config, std::string name,
            const DecodeBuffers& buffers, const Product& writer, const Product& reader, KvType type,
            std::uint32_t window, bool chained) {
  Op op;
  op.name = std::move(name);
  op.bindings = {buffers.step,     buffers.qkv,        buffers.keys,     buffers.values,
                 buffers.attended, buffers.query_norm, buffers.key_norm, buffers.frequencies,
                 buffers.splits,   buffers.counters};
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.query_pre_attn_scalar)));
  const std::uint32_t columns =
      Unsigned((config.num_heads + 2 * config.num_kv_heads) * config.head_dim);
  // How long contexts are is not known here: 8192 keys a query stand for all.
  const double keys = window == 0 ? 8192.0 : window;
  op.plan = [context, config, writer, reader, window, columns, chained,
             params = kernels::DecodeParams{config.rms_norm_eps, scale, window, 0, 0},
             bytes = keys * columns, kernel = Cat("decode_", KvSuffix(type))](
                std::uint32_t rows) -> absl::StatusOr<DispatchPlan> {
    const DecodeShape shape = ChooseDecodeShape(context, config, rows);
    std::vector<std::uint32_t> constants = {shape.threads,
                                            Unsigned(config.num_heads),
                                            Unsigned(config.num_kv_heads),
                                            Unsigned(config.head_dim),
                                            shape.shared_heads,
                                            context.subgroup(),
                                            shape.lanes,
                                            shape.unroll,
                                            shape.splits,
                                            writer.parts(rows)};
    if (chained) constants.push_back(context.tuning.chain.cumulative ? 1 : 0);
    DispatchPlan plan;
    TANDEM_ASSIGN_OR_RETURN(
        plan.pipeline,
        context.pipelines.Get(Cat(kernel, FormSuffix(reader.form(rows)), chained ? "_chained" : ""),
                              constants));
    kernels::DecodeParams of_bucket = params;
    of_bucket.part_stride = rows * columns;
    of_bucket.pad = reader.pad(rows);
    plan.SetPush(of_bucket);
    plan.groups = {shape.Groups(config), rows, shape.splits};
    // The last split of each workgroup's heads counts itself.
    if (chained) plan.signals = shape.Groups(config) * rows;
    plan.work = {0, bytes * rows};
    return plan;
  };
  return op;
}

}  // namespace tandem
