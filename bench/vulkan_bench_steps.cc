#include "bench/vulkan_bench_steps.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/kv_blocks.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

constexpr std::int32_t kVocabulary = 262144;
constexpr std::int32_t kSmallVocabulary = 4096;
constexpr std::size_t kTimedSteps = 25;

// Seconds of a step, by the host's clock.
struct StepTimes {
  double write = 0;  // its parameters
  double send = 0;
  double wait = 0;
  double read = 0;  // its candidates
  double host() const { return write + send + read; }
  double all() const { return host() + wait; }
};

// A decode step of `sequences` sequences at the context's end, with logits of each.
absl::StatusOr<StepTimes> RunStep(BenchRig& rig, std::int32_t sequences) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(sequences));
  std::iota(ids.begin(), ids.end(), 5);
  std::vector<std::int32_t> rows(static_cast<std::size_t>(sequences));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(kBenchSequences * kBenchBlocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<StepSequence> list;
  for (std::int32_t s = 0; s < sequences; ++s) {
    const auto table = std::span<const std::int32_t>(blocks).subspan(
        static_cast<std::size_t>(s * kBenchBlocks), static_cast<std::size_t>(kBenchBlocks));
    list.push_back({s, s, 1, kBenchContext - 1, table, table});
  }
  std::array<absl::Time, 5> at;
  at[0] = absl::Now();
  TANDEM_RETURN_IF_ERROR(rig.program->Begin(0, {1, ids, list, rows}));
  at[1] = absl::Now();
  TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, rig.program->Submit(0, 0, 0, 0));
  at[2] = absl::Now();
  TANDEM_RETURN_IF_ERROR(rig.program->Wait(ticket, Deadline::Never()));
  at[3] = absl::Now();
  CandidateMemory memory;
  for (const std::int32_t row : rows) {
    if (rig.program->candidates(0, row, &memory).has_value()) continue;
    return absl::InternalError(Cat("row ", row, " of ", sequences, " has no candidates"));
  }
  at[4] = absl::Now();
  const auto between = [&](std::size_t i) { return absl::ToDoubleSeconds(at[i + 1] - at[i]); };
  return StepTimes{between(0), between(1), between(2), between(3)};
}

// Fills the cache with zeros: what stands in new memory may be no numbers.
absl::Status ClearCache(BenchRig& rig) {
  const KvBlockForm form(rig.config, rig.cache->spec());
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(kBenchBlocks));
  std::vector<std::byte> zeros(form.Bytes({blocks, blocks}));
  for (std::int32_t s = 0; s < kBenchSequences; ++s) {
    std::iota(blocks.begin(), blocks.end(), s * kBenchBlocks);
    TANDEM_RETURN_IF_ERROR(rig.cache->Import({blocks, blocks}, zeros));
  }
  return absl::OkStatus();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status PrintStep(BenchRig& rig, std::int32_t sequences) {
  std::vector<StepTimes> steps;
  // Clocks rise under load: the first 200 ms are not counted.
  const absl::Time warm = absl::Now() + absl::Milliseconds(200);
  const absl::Time end = warm + absl::Milliseconds(300);
  while (steps.size() < 9 || absl::Now() < end) {
    const absl::Time start = absl::Now();
    TANDEM_ASSIGN_OR_RETURN(const StepTimes step, RunStep(rig, sequences));
    if (start > warm) steps.push_back(step);
  }
  const auto median = [&](auto part) {
    std::vector<double> values;
    for (const StepTimes& step : steps) values.push_back(1e6 * part(step));
    return Median(std::move(values));
  };
  std::printf(
      "  %2d sequences: %9.1f us a step; of them the host, while the device has nothing to do: "
      "%5.1f (%.1f to write parameters, %.1f to send, %.1f to read candidates)\n",
      sequences, median([](const StepTimes& step) { return step.all(); }),
      median([](const StepTimes& step) { return step.host(); }),
      median([](const StepTimes& step) { return step.write; }),
      median([](const StepTimes& step) { return step.send; }),
      median([](const StepTimes& step) { return step.read; }));
  std::fflush(stdout);
  return absl::OkStatus();
}

std::string LastOfLayers(std::int32_t layers) {
  return TensorName({TensorKind::kPostFfnNorm, layers - 1});
}

// Whether the end of a dispatch is marked: outside of layers, and where layers begin and end.
bool IsMarked(const std::string& name, std::int32_t layers) {
  if (!absl::StrContains(name, "of layer ") && !absl::StrContains(name, "layers.")) return true;
  return name == "queries, keys and values of layer 0" ||
         name == TensorName({TensorKind::kAttentionNorm, 0}) || name == LastOfLayers(layers);
}

struct Part {
  std::string name;
  std::vector<double> seconds;
};

void AddPart(std::string name, double seconds, std::size_t at, std::vector<Part>* parts) {
  if (at == parts->size()) parts->push_back({std::move(name), {}});
  (*parts)[at].seconds.push_back(seconds);
}

// Medians of the parts of timed steps.
absl::Status PrintParts(BenchRig& rig, std::int32_t sequences) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < kTimedSteps; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const StepTimes step, RunStep(rig, sequences));
    // The body and the head.
    TANDEM_ASSIGN_OR_RETURN(const std::vector<DispatchTimer::Run> runs, rig.timer->Latest(2));
    std::size_t at = 0;
    const double device = runs[1].end - runs[0].begin;
    AddPart("sending, until the device begins, and until the host knows the end",
            step.send + step.wait - device, at++, &parts);
    for (std::size_t run = 0; run < runs.size(); ++run) {
      for (const DispatchTimer::Entry& entry : runs[run].entries) {
        const bool layers = entry.name == LastOfLayers(rig.config.num_layers);
        AddPart(layers ? "the rest of the layers" : entry.name, entry.seconds, at++, &parts);
      }
      if (run == 0)
        AddPart("between the two command buffers", runs[1].begin - runs[0].end, at++, &parts);
    }
  }
  for (const Part& part : parts)
    std::printf("      %8.1f us  %s\n", 1e6 * Median(part.seconds), part.name.c_str());
  return absl::OkStatus();
}

absl::Status BenchVariantOfSteps(const LayerBench& bench, const ModelConfig& config,
                                 const BenchRegions& regions,
                                 const std::function<void(Tuning&)>& tune) {
  for (const bool timed : {false, true}) {
    BenchRig rig;
    if (timed) {
      rig.timer = std::make_unique<DispatchTimer>(
          [layers = config.num_layers](const std::string& name) { return IsMarked(name, layers); });
    }
    TANDEM_RETURN_IF_ERROR(MakeBenchRig(bench, config, regions, tune, /*head=*/true, &rig));
    TANDEM_RETURN_IF_ERROR(ClearCache(rig));
    std::printf("steps%s: %d layers, embedding and a head of %d rows\n",
                timed ? " with timestamps" : "", config.num_layers, config.vocab_size);
    for (const std::int32_t sequences : {1, 2, 4, 8, 16, 32}) {
      if (sequences > bench.most_tokens) continue;
      TANDEM_RETURN_IF_ERROR(PrintStep(rig, sequences));
      if (timed) TANDEM_RETURN_IF_ERROR(PrintParts(rig, sequences));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchSteps(const LayerBench& bench) {
  const ModelConfig config = BenchConfig(bench.small, bench.small ? kSmallVocabulary : kVocabulary);
  TANDEM_ASSIGN_OR_RETURN(const BenchRegions regions, MakeBenchRegions(config, bench.format));
  for (const std::function<void(Tuning&)>& tune : bench.variants)
    TANDEM_RETURN_IF_ERROR(BenchVariantOfSteps(bench, config, regions, tune));
  return absl::OkStatus();
}

}  // namespace tandem
