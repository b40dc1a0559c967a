// How near the Vulkan kernels come to the device: matrix products with few vectors in bytes of
// weights a second, beside the copy bandwidth measured in the same run, and whole layers at the
// shapes of the 27B model. Prints tables.
//
//   vulkan_bench [--device NAME] [--small] [--layers] [--dispatches] [--steps] [--submissions]
//       [--only PART] [--most_tokens N] [--chaining auto|on|off] [--set FIELD=VALUE]... [--or]...
//
// --small: shapes for a software rasteriser. --layers: layers alone. --dispatches: layers, and what
// each dispatch of a layer takes, by timestamps. --steps: whole steps of few layers, with what is
// outside of layers by itself. --submissions: what sending work and waiting for it takes. --only: lines whose "FORMAT/NAME" contains PART,
// and layers of such formats only with --layers. --most_tokens: layers in steps of no more.
// --chaining: as --gpu_chaining of a gpu-worker. --set: another value in the row of the tuning
// table, for example packed.rows=2. --or: layers again on the same weights, with what is set behind
// it.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "bench/tuning_settings.h"
#include "bench/vulkan_bench_layers.h"
#include "bench/vulkan_bench_steps.h"
#include "bench/vulkan_bench_submissions.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/matmul_op.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/enum_names.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tuning_mode.h"

namespace tandem {
namespace {

using vulkan::Buffer;
using vulkan::Placement;

constexpr std::size_t kRuns = 5;

// Device objects of the bench, and how to time a recorded command buffer.
class Bench {
 public:
  static absl::StatusOr<std::unique_ptr<Bench>> Create(const std::string& name) {
    auto bench = std::unique_ptr<Bench>(new Bench);
    TANDEM_ASSIGN_OR_RETURN(bench->instance_, vulkan::Instance::Create(false, nullptr));
    TANDEM_ASSIGN_OR_RETURN(const auto devices,
                            vulkan::ListPhysicalDevices(bench->instance_->handle()));
    TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, name));
    TANDEM_ASSIGN_OR_RETURN(bench->device_, vulkan::LogicalDevice::Create(devices[chosen]));
    bench->pipelines_ = std::make_unique<PipelineLibrary>(*bench->device_);
    bench->tuning_ = TuningFor(devices[chosen]);
    TANDEM_ASSIGN_OR_RETURN(bench->timeline_, vulkan::Timeline::Create(*bench->device_));
    return bench;
  }

  // Seconds of one run, the median of several.
  absl::StatusOr<double> Time(const vulkan::CommandBuffer& commands) {
    std::vector<double> seconds;
    const VkCommandBuffer handle = commands.handle();
    // Clocks rise under load: the first 50 ms are not counted.
    const absl::Time warm = absl::Now() + absl::Milliseconds(50);
    while (seconds.size() < kRuns) {
      const absl::Time start = absl::Now();
      TANDEM_RETURN_IF_ERROR(device_->Submit({&handle, 1}, timeline_.handle(), ++value_));
      TANDEM_RETURN_IF_ERROR(timeline_.Wait(value_, Deadline::Never()));
      if (start > warm) seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
  }

  // Random bytes; floats in [0.5, 2) or their bf16 and half forms, whichever way they are read, are
  // never NaN.
  absl::Status Fill(const Buffer& buffer) {
    constexpr std::uint64_t kPattern = 8 << 20;
    std::mt19937 random(1);
    TANDEM_ASSIGN_OR_RETURN(Buffer staging,
                            Buffer::Create(*device_, kPattern, Placement::kUpload, "pattern"));
    auto* const words = reinterpret_cast<std::uint32_t*>(staging.data());
    for (std::uint64_t i = 0; i < kPattern / 4; ++i)
      words[i] = (random() & 0x83ff83ffu) | 0x3c003c00u;
    TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(*device_));
    TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
    for (std::uint64_t at = 0; at < buffer.bytes(); at += kPattern) {
      const std::uint64_t bytes = std::min(kPattern, buffer.bytes() - at);
      commands.Copy({staging.handle(), 0, bytes}, {buffer.handle(), at, bytes});
    }
    TANDEM_RETURN_IF_ERROR(commands.Finish());
    return Time(commands).status();
  }

  vulkan::LogicalDevice& device() { return *device_; }
  Tuning& tuning() { return tuning_; }
  DeviceContext context() { return {*device_, *pipelines_, tuning_}; }

 private:
  Bench() = default;
  std::unique_ptr<vulkan::Instance> instance_;
  std::unique_ptr<vulkan::LogicalDevice> device_;
  std::unique_ptr<PipelineLibrary> pipelines_;
  Tuning tuning_;
  vulkan::Timeline timeline_;
  std::uint64_t value_ = 0;
};

// Bytes read plus bytes written in a second.
absl::StatusOr<double> CopyBandwidth(Bench& bench, bool small) {
  const std::uint64_t bytes = small ? 64 << 20 : 1 << 30;
  const int copies = small ? 1 : 8;
  TANDEM_ASSIGN_OR_RETURN(Buffer from,
                          Buffer::Create(bench.device(), bytes, Placement::kDevice, "source"));
  TANDEM_ASSIGN_OR_RETURN(Buffer to,
                          Buffer::Create(bench.device(), bytes, Placement::kDevice, "target"));
  TANDEM_RETURN_IF_ERROR(bench.Fill(from));
  const kernels::CopyParams params = {static_cast<std::uint32_t>(bytes / 16)};
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Pipeline* pipeline,
                          bench.context().pipelines.Get("copy", {}));
  TANDEM_ASSIGN_OR_RETURN(auto descriptors, vulkan::DescriptorPool::Create(bench.device(), 1, 2));
  const vulkan::BufferSlice slices[] = {from.slice(), to.slice()};
  TANDEM_ASSIGN_OR_RETURN(const VkDescriptorSet set,
                          descriptors.MakeSet(pipeline->descriptor_layout(), slices));
  TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(bench.device()));
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool.Begin());
  for (int i = 0; i < copies; ++i) {
    commands.Dispatch(*pipeline, set, std::as_bytes(std::span(&params, 1)),
                      {1024, params.blocks / (512 * 1024), 1});
    commands.Barrier();
  }
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  TANDEM_ASSIGN_OR_RETURN(const double seconds, bench.Time(commands));
  return 2.0 * static_cast<double>(bytes) * copies / seconds;
}

struct Options {
  std::string device = "0";  // the best one that is there, be it a software driver
  bool small = false;
  bool layers = false;
  bool dispatches = false;
  bool steps = false;
  bool submissions = false;
  std::string only;
  std::int32_t most_tokens = 512;
  ChainingMode chaining = ChainingMode::kAuto;
  // The first counts where products are measured, too.
  std::vector<TuningSettings> variants{1};
};

struct Product {
  const char* name;
  std::uint32_t rows;
  std::uint32_t cols;
};

// The same product over different copies of the matrix, so that no cache holds it.
struct ProductRig {
  std::vector<Buffer> planes;
  std::vector<DeviceTensor> copies;
  Buffer step;
  Buffer input;
  Buffer output;
  std::vector<Op> ops;
  vulkan::DescriptorPool descriptors;
};

absl::Status MakeCopies(Bench& bench, const Product& product, WeightFormat format, bool small,
                        ProductRig* rig) {
  const TensorShape shape{product.rows, product.cols};
  TANDEM_ASSIGN_OR_RETURN(const PlaneSizes sizes, PlaneSizesOf(format, shape));
  const std::uint64_t wanted = small ? 16 << 20 : 1 << 30;
  const std::uint64_t count = std::clamp<std::uint64_t>(wanted / sizes.value_bytes, 1, 32);
  for (std::uint64_t i = 0; i < count; ++i) {
    DeviceTensor tensor{shape, format, {{0, product.rows, {}, {}}}};
    for (const std::uint64_t bytes : {sizes.value_bytes, sizes.scale_bytes}) {
      if (bytes == 0) continue;
      TANDEM_ASSIGN_OR_RETURN(Buffer plane,
                              Buffer::Create(bench.device(), bytes, Placement::kDevice, "weights"));
      TANDEM_RETURN_IF_ERROR(bench.Fill(plane));
      WeightChunk& chunk = tensor.chunks[0];
      (bytes == sizes.value_bytes ? chunk.values : chunk.scales) = plane.slice();
      rig->planes.push_back(std::move(plane));
    }
    rig->copies.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::StatusOr<vulkan::CommandBuffer> RecordProducts(Bench& bench, ProductRig* rig,
                                                     vulkan::CommandPool* pool,
                                                     std::uint32_t tokens, int repeats) {
  TANDEM_ASSIGN_OR_RETURN(auto commands, pool->Begin());
  const auto sets = static_cast<std::uint32_t>(rig->ops.size());
  TANDEM_ASSIGN_OR_RETURN(rig->descriptors,
                          vulkan::DescriptorPool::Create(bench.device(), sets, 5 * sets));
  std::vector<VkDescriptorSet> made;
  for (const Op& op : rig->ops) {
    TANDEM_ASSIGN_OR_RETURN(const DispatchPlan plan, op.plan(tokens));
    TANDEM_ASSIGN_OR_RETURN(
        const VkDescriptorSet set,
        rig->descriptors.MakeSet(plan.pipeline->descriptor_layout(), op.bindings));
    made.push_back(set);
  }
  for (int i = 0; i < repeats; ++i) {
    const std::size_t at = static_cast<std::size_t>(i) % rig->ops.size();
    TANDEM_ASSIGN_OR_RETURN(const DispatchPlan plan, rig->ops[at].plan(tokens));
    commands.Dispatch(*plan.pipeline, made[at], std::span(plan.push).first(plan.push_bytes),
                      plan.groups);
    commands.Barrier();
  }
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  return commands;
}

absl::Status BenchProduct(Bench& bench, const Product& product, WeightFormat format, bool small,
                          double copy) {
  ProductRig rig;
  TANDEM_RETURN_IF_ERROR(MakeCopies(bench, product, format, small, &rig));
  TANDEM_ASSIGN_OR_RETURN(rig.step,
                          Buffer::Create(bench.device(), 4096, Placement::kUpload, "step"));
  const std::uint64_t most = 64;
  TANDEM_ASSIGN_OR_RETURN(rig.input, Buffer::Create(bench.device(), most * product.cols * 4,
                                                    Placement::kDevice, "input"));
  TANDEM_RETURN_IF_ERROR(bench.Fill(rig.input));
  TANDEM_ASSIGN_OR_RETURN(rig.output, Buffer::Create(bench.device(), most * product.rows * 4,
                                                     Placement::kDevice, "output"));
  for (const DeviceTensor& copy_of : rig.copies) {
    TANDEM_RETURN_IF_ERROR(AppendMatmul(bench.context(), product.name, copy_of, rig.step.slice(),
                                        rig.input.slice(), {rig.output.slice(), product.rows, 0},
                                        kernels::kRowsAreTokens, true, &rig.ops));
  }
  const PlaneSizes sizes = *PlaneSizesOf(format, {product.rows, product.cols});
  const double bytes = static_cast<double>(sizes.value_bytes + sizes.scale_bytes);
  for (const std::uint32_t tokens : {1u, 4u, 8u, 32u}) {
    kernels::StepHeader header{};
    header.tokens = tokens;
    std::memcpy(rig.step.data(), &header, sizeof(header));
    const int repeats = small ? 2 : std::clamp(static_cast<int>(0.02 * 2e12 / bytes), 4, 400);
    TANDEM_ASSIGN_OR_RETURN(auto pool, vulkan::CommandPool::Create(bench.device()));
    TANDEM_ASSIGN_OR_RETURN(auto commands, RecordProducts(bench, &rig, &pool, tokens, repeats));
    TANDEM_ASSIGN_OR_RETURN(double seconds, bench.Time(commands));
    seconds /= repeats;
    std::printf(
        "%-10s %-5s %7u x %-6u tokens %2u  %9.1f us  %8.1f GB/s  %5.1f%% of copy  %7.2f TFLOP/s\n",
        product.name, std::string(WeightFormatName(format)).c_str(), product.rows, product.cols,
        tokens, seconds * 1e6, bytes / seconds / 1e9, 100 * bytes / seconds / copy,
        2e-12 * product.rows * product.cols * tokens / seconds);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::Status BenchProducts(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(auto bench, Bench::Create(options.device));
  const vulkan::PhysicalDevice& physical = bench->device().physical();
  std::printf("device %s, %s, tuning %s", physical.name.c_str(), physical.driver.c_str(),
              std::string(bench->tuning().name).c_str());
  TANDEM_RETURN_IF_ERROR(options.variants.front().Apply(&bench->tuning()));
  TANDEM_ASSIGN_OR_RETURN(const double copy, CopyBandwidth(*bench, options.small));
  std::printf("\ncopy bandwidth (read + written): %.1f GB/s\n", copy / 1e9);
  const std::vector<Product> large = {{"head", 262144, 5376}, {"gate", 21504, 5376},
                                      {"down", 5376, 21504},  {"query", 4096, 5376},
                                      {"key", 2048, 5376},    {"output", 5376, 4096}};
  const std::vector<Product> little = {{"gate", 2048, 512}, {"down", 512, 2048}};
  for (const WeightFormat format :
       {WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    for (const Product& product : options.small ? little : large) {
      const std::string name = std::string(WeightFormatName(format)) + "/" + product.name;
      if (name.find(options.only) == std::string::npos) continue;
      TANDEM_RETURN_IF_ERROR(BenchProduct(*bench, product, format, options.small, copy));
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  if (options.submissions) return BenchSubmissions(options.device, options.small);
  const bool stages = options.layers || options.steps;
  if (!stages) TANDEM_RETURN_IF_ERROR(BenchProducts(options));
  if (!options.only.empty() && !stages) return absl::OkStatus();
  for (const WeightFormat format :
       {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kBf16}) {
    if (std::string(WeightFormatName(format)).find(options.only) == std::string::npos) continue;
    LayerBench layers{
        options.device,   format, options.small, options.dispatches, options.most_tokens,
        options.chaining, {}};
    absl::Status known;
    for (const TuningSettings& settings : options.variants)
      layers.variants.emplace_back([&](Tuning& tuning) {
        known.Update(settings.Apply(&tuning));
        std::printf("\n");
      });
    const absl::Status done = options.steps ? BenchSteps(layers) : BenchLayers(layers);
    TANDEM_RETURN_IF_ERROR(known);
    TANDEM_RETURN_IF_ERROR(done);
  }
  return absl::OkStatus();
}

// False when an argument is not understood.
bool ParseArguments(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--small") {
      options->small = true;
      continue;
    }
    if (arg == "--layers") {
      options->layers = true;
      continue;
    }
    if (arg == "--steps" || arg == "--submissions") {
      (arg == "--steps" ? options->steps : options->submissions) = true;
      continue;
    }
    if (arg == "--dispatches") {
      options->layers = options->dispatches = true;
      continue;
    }
    if (arg == "--or") {
      options->variants.emplace_back();
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (arg == "--device") {
      options->device = value;
    } else if (arg == "--only") {
      options->only = value;
    } else if (arg == "--most_tokens") {
      if (!absl::SimpleAtoi(value, &options->most_tokens)) return false;
    } else if (arg == "--chaining") {
      const absl::StatusOr<ChainingMode> mode = ParseEnum<ChainingMode>(arg, value);
      if (!mode.ok()) return false;
      options->chaining = *mode;
    } else if (arg == "--set") {
      if (!options->variants.back().Add(value)) return false;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Options options;
  if (!tandem::ParseArguments(argc, argv, &options)) {
    std::fprintf(
        stderr,
        "usage: vulkan_bench [--device NAME] [--small] [--layers] [--dispatches] [--steps] "
        "[--submissions] [--only PART] [--most_tokens N] [--chaining MODE] [--set FIELD=VALUE]... "
        "[--or]...\n");
    return 2;
  }
  const absl::Status status = tandem::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "vulkan_bench: %s\n", status.ToString().c_str());
  return 1;
}
