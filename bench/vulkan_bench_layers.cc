#include "bench/vulkan_bench_layers.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gpu-worker/stage/dispatch_timer.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"

namespace tandem {
namespace {

constexpr std::int32_t kVocabulary = 1024;  // there is no head

// Seconds of a step of `sequences` sequences with `tokens` tokens each, ending at the
// context's end.
absl::StatusOr<double> TimeStep(BenchRig& rig, std::int32_t sequences, std::int32_t tokens,
                                std::int32_t context) {
  std::vector<std::int32_t> ids;
  const std::int32_t of_sequence = context / kKvBlockTokens + 1;
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(kBenchSequences * kBenchBlocks));
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
absl::Status PrintDispatches(const DispatchTimer& timer, std::int32_t layers) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<DispatchTimer::Entry> entries, timer.Last());
  double all = 0;
  for (const DispatchTimer::Entry& entry : entries) {
    const bool of_layer = entry.name.ends_with(" 1") || absl::StrContains(entry.name, ".1.");
    all += entry.seconds;
    if (of_layer) std::printf("      %8.1f us  %s\n", entry.seconds * 1e6, entry.name.c_str());
  }
  std::printf("      %8.1f us  a layer, with all dispatches of the step kept apart\n",
              all / layers * 1e6);
  return absl::OkStatus();
}

absl::Status BenchVariant(const LayerBench& bench, const ModelConfig& config,
                          const BenchRegions& regions, const std::function<void(Tuning&)>& tune) {
  const WeightFormat format = bench.format;
  const bool small = bench.small;
  BenchRig rig;
  if (bench.dispatches) rig.timer = std::make_unique<DispatchTimer>();
  TANDEM_RETURN_IF_ERROR(MakeBenchRig(bench, config, regions, tune, /*head=*/false, &rig));
  const double bytes = static_cast<double>(rig.layer_bytes);
  std::printf("layers: %s, hidden %d, ffn %d, %.1f MB of weights a layer, %d layers a step\n",
              std::string(WeightFormatName(format)).c_str(), rig.config.hidden_size,
              rig.config.ffn_size, bytes / 1e6, rig.config.num_layers);
  const struct {
    std::int32_t sequences;
    std::int32_t tokens;
    std::int32_t context;
  } rows[] = {{1, 1, kBenchContext},   {2, 1, kBenchContext},       {4, 1, kBenchContext},
              {8, 1, kBenchContext},   {16, 1, kBenchContext},      {32, 1, kBenchContext},
              {1, 64, kBenchContext},  {1, 128, kBenchContext},     {1, 256, kBenchContext},
              {1, 512, kBenchContext}, {1, 512, kBenchLongContext}, {1, 1, kBenchLongContext}};
  for (const auto& [sequences, tokens, context] : rows) {
    if (small && (sequences * tokens > 32 || context > kBenchContext)) continue;
    if (sequences * tokens > bench.most_tokens) continue;
    TANDEM_ASSIGN_OR_RETURN(double seconds, TimeStep(rig, sequences, tokens, context));
    seconds /= rig.config.num_layers;
    std::printf(
        "  %2d sequences x %3d tokens to %4d: %9.1f us a layer, %7.1f GB/s of weights, %6.2f ms "
        "for 62 "
        "layers, %8.0f tokens/s\n",
        sequences, tokens, context, seconds * 1e6, bytes / seconds / 1e9, seconds * 62e3,
        sequences * tokens / (seconds * 62));
    if (bench.dispatches)
      TANDEM_RETURN_IF_ERROR(PrintDispatches(*rig.timer, rig.config.num_layers));
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchLayers(const LayerBench& bench) {
  const ModelConfig config = BenchConfig(bench.small, kVocabulary);
  TANDEM_ASSIGN_OR_RETURN(const BenchRegions regions, MakeBenchRegions(config, bench.format));
  for (const std::function<void(Tuning&)>& tune : bench.variants)
    TANDEM_RETURN_IF_ERROR(BenchVariant(bench, config, regions, tune));
  return absl::OkStatus();
}

}  // namespace tandem
