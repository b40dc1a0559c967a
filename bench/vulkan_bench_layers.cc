#include "bench/vulkan_bench_layers.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gpu-worker/stage/dispatch_timer.h"
#include "gpu-worker/stage/vulkan_device.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"
#include "lib/weights/random_region.h"
#include "lib/weights/region.h"

namespace tandem {
namespace {

constexpr std::int32_t kContext = 512;
constexpr std::int32_t kLongContext = 8192;  // of one sequence
constexpr std::int32_t kSequences = 32;
constexpr std::int32_t kBlocks = kContext / kKvBlockTokens + 1;  // of a sequence

ModelConfig ConfigOf(bool small) {
  ModelConfig config;
  config.name = "bench";
  config.vocab_size = 1024;
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

// The layers compiled as one stage that embeds.
struct Rig {
  ModelConfig config;
  std::unique_ptr<Device> device;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<ResidualBuffer> output;
  // Of the device, so it goes before it.
  DispatchTimer timer;
  std::unique_ptr<Program> program;
  std::uint64_t layer_bytes = 0;
};

using Regions = std::vector<std::shared_ptr<const Region>>;

absl::StatusOr<Regions> MakeRegions(const ModelConfig& config, WeightFormat format) {
  Regions regions;
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

absl::Status MakeRig(const LayerBench& bench, const Regions& regions,
                     const std::function<void(Tuning&)>& tune, Rig* rig) {
  rig->config = ConfigOf(bench.small);
  const ModelConfig& config = rig->config;
  VulkanDeviceOptions options;
  options.device = bench.device;
  options.tune = tune;
  options.chaining = bench.chaining;
  if (bench.dispatches) options.timer = &rig->timer;
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
  spec.global_blocks = spec.window_blocks = kSequences * kBlocks;
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) spec.layers.push_back(layer);
  TANDEM_ASSIGN_OR_RETURN(rig->cache, rig->device->CreateKvCache(config, spec));
  TANDEM_ASSIGN_OR_RETURN(
      rig->output, rig->device->CreateResidual(MakeResidualLayout(1, 512, config.hidden_size)));
  program.kv_cache = rig->cache.get();
  program.activations = ActivationType::kAuto;
  program.limits.max_tokens = std::min(program.limits.max_tokens, bench.most_tokens);
  program.limits.max_blocks_per_sequence = kLongContext / kKvBlockTokens + 1;
  program.stages = {
      {{.embed = true, .first_half = 0, .last_half = 2 * config.num_layers, .head = false},
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

// Seconds of a step of `sequences` sequences with `tokens` tokens each, ending at the
// context's end.
absl::StatusOr<double> TimeStep(Rig& rig, std::int32_t sequences, std::int32_t tokens,
                                std::int32_t context) {
  std::vector<std::int32_t> ids;
  const std::int32_t of_sequence = context / kKvBlockTokens + 1;
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(kSequences * kBlocks));
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
  std::vector<StepSequence> list;
  for (std::int32_t s = 0; s < sequences; ++s) {
    const auto table = std::span<const std::int32_t>(blocks).subspan(
        static_cast<std::size_t>(s * of_sequence), static_cast<std::size_t>(of_sequence));
    list.push_back({s, s * tokens, tokens, context - tokens, table, table});
    for (std::int32_t t = 0; t < tokens; ++t) ids.push_back((s * 131 + t * 17) % 1024);
  }
  Step step;
  step.tokens = ids;
  step.sequences = list;
  std::vector<double> seconds;
  // Clocks rise under load: the first 300 ms are not counted.
  const absl::Time warm = absl::Now() + absl::Milliseconds(300);
  const absl::Time end = warm + absl::Milliseconds(300);
  while (seconds.size() < 9 || absl::Now() < end) {
    const absl::Time start = absl::Now();
    TANDEM_RETURN_IF_ERROR(rig.program->Begin(0, step));
    TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, rig.program->Submit(0, 0, 0, 0));
    TANDEM_RETURN_IF_ERROR(rig.program->Wait(ticket, Deadline::Never()));
    if (start > warm) seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  std::sort(seconds.begin(), seconds.end());
  // The host wakes late now and then, in some runs after most steps.
  return seconds[seconds.size() / 10];
}

// What the dispatches of the second layer took in the step that ran last. The first one's has the
// embedding in front of it.
absl::Status PrintDispatches(const Rig& rig) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<DispatchTimer::Entry> entries, rig.timer.Last());
  double all = 0;
  for (const DispatchTimer::Entry& entry : entries) {
    const bool of_layer = entry.name.ends_with(" 1") || absl::StrContains(entry.name, ".1.");
    all += entry.seconds;
    if (of_layer) std::printf("      %8.1f us  %s\n", entry.seconds * 1e6, entry.name.c_str());
  }
  std::printf("      %8.1f us  a layer, with all dispatches of the step kept apart\n",
              all / rig.config.num_layers * 1e6);
  return absl::OkStatus();
}

absl::Status BenchVariant(const LayerBench& bench, const Regions& regions,
                          const std::function<void(Tuning&)>& tune) {
  const WeightFormat format = bench.format;
  const bool small = bench.small;
  Rig rig;
  TANDEM_RETURN_IF_ERROR(MakeRig(bench, regions, tune, &rig));
  const double bytes = static_cast<double>(rig.layer_bytes);
  std::printf("layers: %s, hidden %d, ffn %d, %.1f MB of weights a layer, %d layers a step\n",
              std::string(WeightFormatName(format)).c_str(), rig.config.hidden_size,
              rig.config.ffn_size, bytes / 1e6, rig.config.num_layers);
  const struct {
    std::int32_t sequences;
    std::int32_t tokens;
    std::int32_t context;
  } rows[] = {{1, 1, kContext},   {2, 1, kContext},   {4, 1, kContext},       {8, 1, kContext},
              {16, 1, kContext},  {32, 1, kContext},  {1, 64, kContext},      {1, 128, kContext},
              {1, 256, kContext}, {1, 512, kContext}, {1, 512, kLongContext}, {1, 1, kLongContext}};
  for (const auto& [sequences, tokens, context] : rows) {
    if (small && (sequences * tokens > 32 || context > kContext)) continue;
    if (sequences * tokens > bench.most_tokens) continue;
    TANDEM_ASSIGN_OR_RETURN(double seconds, TimeStep(rig, sequences, tokens, context));
    seconds /= rig.config.num_layers;
    std::printf(
        "  %2d sequences x %3d tokens to %4d: %9.1f us a layer, %7.1f GB/s of weights, %6.2f ms "
        "for 62 "
        "layers, %8.0f tokens/s\n",
        sequences, tokens, context, seconds * 1e6, bytes / seconds / 1e9, seconds * 62e3,
        sequences * tokens / (seconds * 62));
    if (bench.dispatches) TANDEM_RETURN_IF_ERROR(PrintDispatches(rig));
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchLayers(const LayerBench& bench) {
  TANDEM_ASSIGN_OR_RETURN(const Regions regions, MakeRegions(ConfigOf(bench.small), bench.format));
  for (const std::function<void(Tuning&)>& tune : bench.variants)
    TANDEM_RETURN_IF_ERROR(BenchVariant(bench, regions, tune));
  return absl::OkStatus();
}

}  // namespace tandem
