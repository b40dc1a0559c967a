#include "bench/vulkan_bench_rig.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/time/clock.h"
#include "gpu-worker/stage/vulkan_device.h"
#include "lib/base/status_macros.h"
#include "lib/weights/random_region.h"

namespace tandem {

ModelConfig BenchConfig(bool small, std::int32_t vocabulary) {
  ModelConfig config;
  config.name = "bench";
  config.vocab_size = vocabulary;
  config.hidden_size = small ? 256 : 5376;
  config.ffn_size = small ? 1024 : 21504;
  config.num_layers = small ? 2 : 6;
  config.num_heads = small ? 4 : 32;
  config.num_kv_heads = small ? 2 : 16;
  config.head_dim = small ? 64 : 128;
  config.max_positions = 131072;
  config.sliding_window = 1024;
  config.query_pre_attn_scalar = 168;
  config.rope_factor_global = 8;
  config.layer_is_global.assign(static_cast<std::size_t>(config.num_layers), false);
  config.layer_is_global.back() = true;
  return config;
}

absl::StatusOr<BenchRegions> MakeBenchRegions(const ModelConfig& config, WeightFormat format) {
  BenchRegions regions;
  const auto add = [&](WeightPart part, std::int32_t layer) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(auto region, MakeRandomRegion(config, part, layer, format));
    regions.push_back(std::move(region));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(add(WeightPart::kEmbedding, -1));
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kAttention, layer));
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kFfn, layer));
  }
  return regions;
}

absl::Status MakeBenchRig(const LayerBench& bench, const ModelConfig& config,
                          const BenchRegions& regions, const std::function<void(Tuning&)>& tune,
                          bool head, BenchRig* rig) {
  rig->config = config;
  VulkanDeviceOptions options;
  options.device = bench.device;
  options.tune = tune;
  options.chaining = bench.chaining;
  options.timer = rig->timer.get();
  TANDEM_ASSIGN_OR_RETURN(rig->device, CreateVulkanDevice(options));
  ProgramSpec program;
  for (const std::shared_ptr<const Region>& region : regions) {
    if (region != regions.front()) rig->layer_bytes += region->manifest().bytes;
    TANDEM_ASSIGN_OR_RETURN(auto weights, rig->device->Import(region, config));
    program.weights.push_back(std::move(weights));
  }
  KvCacheSpec spec;
  // As the gateway asks for where nobody says otherwise.
  spec.type = KvType::kFloat16;
  spec.global_blocks = spec.window_blocks = kBenchSequences * kBenchBlocks;
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) spec.layers.push_back(layer);
  TANDEM_ASSIGN_OR_RETURN(rig->cache, rig->device->CreateKvCache(config, spec));
  if (head) {
    program.limits.max_logit_rows = kBenchSequences;
  } else {
    TANDEM_ASSIGN_OR_RETURN(
        rig->output, rig->device->CreateResidual(MakeResidualLayout(1, 512, config.hidden_size)));
  }
  program.kv_cache = rig->cache.get();
  program.activations = ActivationType::kAuto;
  program.limits.max_tokens = std::min(program.limits.max_tokens, bench.most_tokens);
  program.limits.max_blocks_per_sequence = kBenchLongContext / kKvBlockTokens + 1;
  program.stages = {
      {{.embed = true, .first_half = 0, .last_half = 2 * config.num_layers, .head = head},
       nullptr,
       rig->output.get()}};
  const absl::Time start = absl::Now();
  const std::uint64_t recorded = rig->device->counters().command_recordings;
  TANDEM_ASSIGN_OR_RETURN(rig->program, rig->device->Compile(config, program));
  std::printf(
      "compiled in %.0f ms: %llu command buffers, %.1f MB of scratch in %d contexts\n",
      absl::ToDoubleMilliseconds(absl::Now() - start),
      static_cast<unsigned long long>(rig->device->counters().command_recordings - recorded),
      static_cast<double>(rig->program->scratch_bytes()) / 1e6, program.contexts);
  rig->layer_bytes /= static_cast<std::uint64_t>(config.num_layers);
  return absl::OkStatus();
}

}  // namespace tandem
