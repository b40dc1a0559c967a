// How fast a whole model runs on a device, without a cluster: prompts and decode steps of some
// streams, beside what reading the weights alone would take at the bandwidth measured in this run.
//
//   model_bench [--device cpu|NAME] [--model FILE | --shape 1b|4b|12b|27b] [--weights FORMAT]
//       [--activations auto] [--kv_type float16] [--streams 1,8,16,32] [--prompts 512]
//       [--context 256] [--seconds 3] [--chaining auto|on|off] [--set FIELD=VALUE]...
//
// --device: cpu, or a Vulkan device by a part of its name or its number. --model: a GGUF file or a
// folder of safetensors; --shape: random weights. --weights: int4, int8 or bf16 (--model: auto,
// too). --context: tokens in the cache when decoding begins. --chaining: as --gpu_chaining of a
// gpu-worker. --set: another value in the tuning table of a Vulkan device. Tokens are chosen as a
// greedy request chooses them; nothing is sampled further. In brackets stands what of a step's time
// the host takes to write and send it and to read its candidates.

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/kernels/bench_device.h"
#include "bench/tuning_settings.h"
#include "gpu-worker/stage/vulkan_device.h"
#include "lib/base/enum_names.h"
#include "lib/base/huge_pages.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/thread_pool.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/model/gemma3_shapes.h"
#include "lib/model/tuning_mode.h"
#include "lib/weights/random_region.h"
#include "lib/weights/region.h"
#include "loader/pack/model_packer.h"
#include "loader/read/model_source.h"

namespace tandem {
namespace {

struct Options {
  std::string device = "cpu";
  std::string model;
  std::string shape = "1b";
  std::string weights = "int4";
  std::string activations = "auto";
  std::string kv_type = "float16";
  std::vector<std::int32_t> streams = {1, 8, 16, 32};
  std::vector<std::int32_t> prompts = {512};
  std::int32_t context = 256;
  double seconds = 3;
  std::string chaining = "auto";
  TuningSettings settings;
};

constexpr std::int32_t kChunk = 512;  // tokens of a step, as the gateway has it by default

int Threads() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

// Bytes a second that this machine's processors read from memory, in pages of 2 MiB where it has
// any.
double HostBandwidth() {
  constexpr std::size_t kCount = std::size_t{64} << 20;
  const std::unique_ptr<void, decltype(&std::free)> memory(
      std::aligned_alloc(kHugePageBytes, kCount * sizeof(std::uint64_t)), &std::free);
  if (memory == nullptr) return 0;
  ::madvise(memory.get(), kCount * sizeof(std::uint64_t), MADV_HUGEPAGE);
  const std::span<std::uint64_t> buffer(static_cast<std::uint64_t*>(memory.get()), kCount);
  std::fill(buffer.begin(), buffer.end(), 1);
  ThreadPool pool(Threads());
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(Threads()) * 8);
  double most = 0;
  for (int round = 0; round < 5; ++round) {
    const absl::Time start = absl::Now();
    pool.ParallelFor(static_cast<std::int64_t>(buffer.size()), 1 << 16,
                     [&](std::int64_t begin, std::int64_t end, int worker) {
                       sums[static_cast<std::size_t>(worker) * 8] += std::accumulate(
                           buffer.begin() + begin, buffer.begin() + end, std::uint64_t{0});
                     });
    most = std::max(
        most, static_cast<double>(buffer.size() * 8) / absl::ToDoubleSeconds(absl::Now() - start));
  }
  // Looked at, so that no compiler leaves the sums out.
  return std::accumulate(sums.begin(), sums.end(), std::uint64_t{0}) == 0 ? 0 : most;
}

absl::StatusOr<double> Bandwidth(const Options& options) {
  if (options.device == "cpu") return HostBandwidth();
  TANDEM_ASSIGN_OR_RETURN(const auto bench, BenchDevice::Create(options.device));
  return bench->CopyBandwidth(/*small=*/false);
}

// The model on the device, as one stage.
struct Rig {
  ModelConfig config;
  std::unique_ptr<Device> device;
  std::vector<std::shared_ptr<const Weights>> weights;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Program> program;
  double bytes = 0;  // of weights that a step reads
  std::int32_t most_sequences = 0;
  std::int32_t blocks = 0;  // of a sequence
  // Of all steps, what the host took between what it had of the device.
  absl::Duration host;
};

absl::Status AddRegion(std::shared_ptr<const Region> region, Rig* rig) {
  rig->bytes += static_cast<double>(region->manifest().bytes);
  TANDEM_ASSIGN_OR_RETURN(auto weights, rig->device->Import(std::move(region), rig->config));
  rig->weights.push_back(std::move(weights));
  return absl::OkStatus();
}

absl::Status LoadFile(const Options& options, Rig* rig) {
  TANDEM_ASSIGN_OR_RETURN(const auto source, ModelSource::Open(options.model));
  rig->config = source->config();
  TANDEM_ASSIGN_OR_RETURN(const QuantMode mode, ParseEnum<QuantMode>("--weights", options.weights));
  TANDEM_ASSIGN_OR_RETURN(const ModelPacker packer, ModelPacker::Create(*source, mode));
  ThreadPool pool(Threads());
  TANDEM_ASSIGN_OR_RETURN(std::vector<SealedRegion> regions, packer.Pack(pool, {}));
  for (SealedRegion& sealed : regions) {
    TANDEM_ASSIGN_OR_RETURN(auto region, Region::Open(std::move(sealed.fd), sealed.manifest,
                                                      rig->config, /*verify_checksums=*/false));
    TANDEM_RETURN_IF_ERROR(AddRegion(std::move(region), rig));
  }
  return absl::OkStatus();
}

absl::Status MakeRandom(const Options& options, Rig* rig) {
  TANDEM_ASSIGN_OR_RETURN(rig->config, Gemma3Shape(options.shape));
  TANDEM_ASSIGN_OR_RETURN(const WeightFormat format, ParseWeightFormat(options.weights));
  const auto add = [&](WeightPart part, std::int32_t layer) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(auto region, MakeRandomRegion(rig->config, part, layer, format));
    return AddRegion(std::move(region), rig);
  };
  TANDEM_RETURN_IF_ERROR(add(WeightPart::kEmbedding, -1));
  for (std::int32_t layer = 0; layer < rig->config.num_layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kAttention, layer));
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kFfn, layer));
  }
  return absl::OkStatus();
}

absl::Status MakeRig(const Options& options, Rig* rig) {
  if (options.device == "cpu") {
    TANDEM_ASSIGN_OR_RETURN(rig->device, CreateCpuDevice({}));
  } else {
    VulkanDeviceOptions vulkan;
    vulkan.device = options.device;
    TANDEM_ASSIGN_OR_RETURN(vulkan.chaining,
                            ParseEnum<ChainingMode>("--chaining", options.chaining));
    absl::Status known;
    vulkan.tune = [&](Tuning& tuning) { known = options.settings.Apply(&tuning); };
    TANDEM_ASSIGN_OR_RETURN(rig->device, CreateVulkanDevice(vulkan));
    TANDEM_RETURN_IF_ERROR(known);
  }
  TANDEM_RETURN_IF_ERROR(options.model.empty() ? MakeRandom(options, rig) : LoadFile(options, rig));
  rig->most_sequences = *std::max_element(options.streams.begin(), options.streams.end());
  const std::int32_t longest =
      std::max(options.context, *std::max_element(options.prompts.begin(), options.prompts.end()));
  // Decoding adds to the context: room for some thousands of steps.
  rig->blocks = static_cast<std::int32_t>(CeilDiv(longest, kKvBlockTokens)) + 256;
  KvCacheSpec spec;
  spec.layers.resize(static_cast<std::size_t>(rig->config.num_layers));
  std::iota(spec.layers.begin(), spec.layers.end(), 0);
  spec.global_blocks = spec.window_blocks = rig->most_sequences * rig->blocks;
  TANDEM_ASSIGN_OR_RETURN(spec.type, ParseEnum<KvType>("--kv_type", options.kv_type));
  TANDEM_ASSIGN_OR_RETURN(rig->cache, rig->device->CreateKvCache(rig->config, spec));
  ProgramSpec program;
  program.weights = rig->weights;
  program.kv_cache = rig->cache.get();
  TANDEM_ASSIGN_OR_RETURN(program.activations,
                          ParseEnum<ActivationType>("--activations", options.activations));
  program.limits = {.max_tokens = std::max(kChunk, rig->most_sequences),
                    .max_sequences = rig->most_sequences,
                    .max_logit_rows = rig->most_sequences,
                    .max_blocks_per_sequence = rig->blocks};
  program.stages = {
      {{.embed = true, .first_half = 0, .last_half = 2 * rig->config.num_layers, .head = true}}};
  TANDEM_ASSIGN_OR_RETURN(rig->program, rig->device->Compile(rig->config, program));
  return absl::OkStatus();
}

// One step of `tokens` tokens for each of `sequences` at `position`; the last token of each has
// logits, of which the best is asked for.
absl::Status RunStep(Rig& rig, std::int32_t sequences, std::int32_t tokens, std::int32_t position,
                     bool logits) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(sequences * tokens));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>((i * 131 + 7) % 1000);
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(rig.most_sequences * rig.blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<StepSequence> list;
  std::vector<std::int32_t> rows;
  for (std::int32_t s = 0; s < sequences; ++s) {
    const auto table = std::span<const std::int32_t>(blocks).subspan(
        static_cast<std::size_t>(s * rig.blocks), static_cast<std::size_t>(rig.blocks));
    list.push_back({s, s * tokens, tokens, position, table, table});
    if (logits) rows.push_back((s + 1) * tokens - 1);
  }
  const absl::Time begin = absl::Now();
  TANDEM_RETURN_IF_ERROR(rig.program->Begin(0, {1, ids, list, rows}));
  TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, rig.program->Submit(0, 0, 0, 0));
  const absl::Time sent = absl::Now();
  TANDEM_RETURN_IF_ERROR(rig.program->Wait(ticket, Deadline::Never()));
  const absl::Time done = absl::Now();
  CandidateMemory memory;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rig.program->candidates(0, static_cast<std::int32_t>(row), &memory).has_value()) continue;
    // A device that finds no candidates has the whole row looked through.
    const auto vocabulary = static_cast<std::size_t>(rig.config.vocab_size);
    const std::span<const float> all = rig.program->logits(0).subspan(row * vocabulary, vocabulary);
    if (std::isnan(*std::max_element(all.begin(), all.end())))
      return absl::InternalError("a logit is no number");
  }
  rig.host += sent - begin + (absl::Now() - done);
  return absl::OkStatus();
}

absl::Status Prompt(Rig& rig, std::int32_t tokens) {
  for (std::int32_t at = 0; at < tokens; at += kChunk) {
    const bool last = at + kChunk >= tokens;
    TANDEM_RETURN_IF_ERROR(RunStep(rig, 1, std::min(kChunk, tokens - at), at, last));
  }
  return absl::OkStatus();
}

absl::Status Measure(const Options& options, Rig& rig, double bandwidth) {
  for (const std::int32_t tokens : options.prompts) {
    TANDEM_RETURN_IF_ERROR(Prompt(rig, tokens));
    int runs = 0;
    const absl::Time start = absl::Now();
    while (runs < 1 || absl::ToDoubleSeconds(absl::Now() - start) < options.seconds) {
      TANDEM_RETURN_IF_ERROR(Prompt(rig, tokens));
      ++runs;
    }
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start) / runs;
    std::printf("prompt of %5d tokens   %9.1f tok/s  %9.2f ms\n", tokens, tokens / seconds,
                seconds * 1e3);
    std::fflush(stdout);
  }
  const std::int32_t room = rig.blocks * kKvBlockTokens;
  for (const std::int32_t streams : options.streams) {
    std::int32_t position = options.context;
    for (int warm = 0; warm < 3; ++warm)
      TANDEM_RETURN_IF_ERROR(RunStep(rig, streams, 1, position++, true));
    int steps = 0;
    rig.host = absl::ZeroDuration();
    const absl::Time start = absl::Now();
    while (position < room &&
           (steps < 1 || absl::ToDoubleSeconds(absl::Now() - start) < options.seconds)) {
      TANDEM_RETURN_IF_ERROR(RunStep(rig, streams, 1, position++, true));
      ++steps;
    }
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start) / steps;
    std::printf(
        "decode of %3d streams   %9.1f tok/s  %9.2f ms (host %5.1f us)  %7.1f GB/s of weights, "
        "%5.1f %% of the limit\n",
        streams, streams / seconds, seconds * 1e3, absl::ToDoubleMicroseconds(rig.host) / steps,
        rig.bytes / seconds / 1e9, 100 * rig.bytes / seconds / bandwidth);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const double bandwidth, Bandwidth(options));
  Rig rig;
  const absl::Time start = absl::Now();
  TANDEM_RETURN_IF_ERROR(MakeRig(options, &rig));
  std::printf("%s, %s; %s in %s: %.2f GB, ready after %.1f s; limit: %.1f GB/s (%s)\n",
              rig.device->info().name.c_str(), rig.device->info().driver.c_str(),
              rig.config.name.c_str(), options.weights.c_str(), rig.bytes / 1e9,
              absl::ToDoubleSeconds(absl::Now() - start), bandwidth / 1e9,
              options.device == "cpu" ? "reads of memory" : "copies, read and written");
  return Measure(options, rig, bandwidth);
}

bool Numbers(const std::string& text, std::vector<std::int32_t>* numbers) {
  numbers->clear();
  for (const auto part : absl::StrSplit(text, ',')) {
    std::int32_t number = 0;
    if (!absl::SimpleAtoi(part, &number) || number < 1 || number > 1 << 17) return false;
    numbers->push_back(number);
  }
  return !numbers->empty();
}

// False when an argument is not understood.
bool ParseArguments(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    std::vector<std::int32_t> one;
    if (name == "--device") {
      options->device = value;
    } else if (name == "--model") {
      options->model = value;
    } else if (name == "--shape") {
      options->shape = value;
    } else if (name == "--weights") {
      options->weights = value;
    } else if (name == "--activations") {
      options->activations = value;
    } else if (name == "--kv_type") {
      options->kv_type = value;
    } else if (name == "--streams") {
      if (!Numbers(value, &options->streams)) return false;
    } else if (name == "--prompts") {
      if (!Numbers(value, &options->prompts)) return false;
    } else if (name == "--context") {
      if (!Numbers(value, &one) || one.size() != 1) return false;
      options->context = one.front();
    } else if (name == "--chaining") {
      options->chaining = value;
    } else if (name == "--set") {
      if (!options->settings.Add(value)) return false;
    } else if (name == "--seconds") {
      if (!absl::SimpleAtod(value, &options->seconds) || options->seconds <= 0) return false;
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Options options;
  if (!tandem::ParseArguments(argc, argv, &options)) {
    std::fprintf(
        stderr,
        "usage: model_bench [--device cpu|NAME] [--model FILE | --shape SHAPE] [--weights "
        "FORMAT] [--streams N,...] [--prompts N,...] [--context N] [--seconds S] [--chaining "
        "MODE] [--set FIELD=VALUE]...\n");
    return 2;
  }
  const absl::Status status = tandem::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "model_bench: %s\n", status.ToString().c_str());
  return 1;
}
